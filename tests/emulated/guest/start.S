// The first and only thing in the emulated machine's ROM: there is no BIOS and no boot loader. It reads the disk into
// memory, the initramfs and right behind it the kernel, and enters the kernel as Xen's PVH protocol has it
// (xen/include/public/arch-x86/hvm/start_info.h): in 32-bit mode without paging, EBX pointing to a description of the
// machine.
//
// Given by the program: IMAGE, where the initramfs belongs, and its INITRAMFS_BYTES; SECTORS of the disk, a whole number
// of reads; ENTRY, the kernel's; MEMORY, the bytes that the machine has; COMMAND_LINE.

// ATA's registers of the first disk, and how many sectors one command reads.
#define DATA 0x1f0
#define COUNT 0x1f2
#define DRIVE 0x1f6
#define COMMAND 0x1f7
#define READ_SECTORS 0x20
#define BUSY 0x80
#define READY 0x08
#define SECTORS_A_READ 252

        .code16
start:
        cs lgdtl segments_pointer - start
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $protected

        .code32
protected:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        cld
        movl    $IMAGE, %edi
        xorl    %ebx, %ebx              // the next sector
read:
        movw    $COUNT, %dx
        movb    $SECTORS_A_READ, %al
        outb    %al, %dx
        movl    %ebx, %eax              // the sector's number in three registers, and its upper four bits in DRIVE
        incw    %dx
        outb    %al, %dx
        shrl    $8, %eax
        incw    %dx
        outb    %al, %dx
        shrl    $8, %eax
        incw    %dx
        outb    %al, %dx
        shrl    $8, %eax
        orb     $0xe0, %al
        incw    %dx
        outb    %al, %dx
        movw    $COMMAND, %dx
        movb    $READ_SECTORS, %al
        outb    %al, %dx
        movl    $SECTORS_A_READ, %esi
sector:
        movw    $COMMAND, %dx
wait:
        inb     %dx, %al
        testb   $BUSY, %al
        jnz     wait
        testb   $READY, %al
        jz      wait
        movw    $DATA, %dx
        movl    $512 / 4, %ecx
        rep insl
        decl    %esi
        jnz     sector
        addl    $SECTORS_A_READ, %ebx
        cmpl    $SECTORS, %ebx
        jb      read
        movl    $machine, %ebx
        movl    $ENTRY, %eax
        jmp     *%eax

        .balign 8
segments:                               // none, code and data: all of the first 4 GiB
        .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
segments_pointer:
        .word   segments_pointer - segments - 1
        .long   segments

        .balign 8
machine:                                // hvm_start_info
        .long   0x336ec578, 1, 0, 1     // its mark, version, flags, how many modules
        .long   modules, 0, command_line, 0, 0, 0, memory, 0
        .long   2, 0                    // how many entries in memory
modules:                                // hvm_modlist_entry
        .quad   IMAGE, INITRAMFS_BYTES, 0, 0
memory:                                 // hvm_memmap_table_entry: address, size, RAM
        .quad   0, 0x9f000
        .long   1, 0
        .quad   0x100000, MEMORY - 0x100000
        .long   1, 0
command_line:
        .asciz  COMMAND_LINE

        .org    0xfff0                  // where a processor starts
        .code16
        ljmpw   $0xf000, $0
        .org    0x10000
