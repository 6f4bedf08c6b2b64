#!/bin/sh
# Makes the disk of a machine with real systemd, NetworkManager, firewalld, sshd and grub's tools from Debian's packages.
# Argument: the folder for root.ext4, vmlinuz, initrd, user_key and host_key.pub. Needs root, mmdebstrap and a network.
set -eu
out=$1
work=$(mktemp -d /dev/shm/halo-system.XXXXXX)
trap 'rm -rf "$work"' EXIT INT TERM
rm -f "$out/user_key" "$out/user_key.pub"
ssh-keygen -q -t ed25519 -N "" -C halo-system -f "$out/user_key"

# What the disk lacks and configure installs, from a repository on the disk itself.
mkdir "$work/repo"
(cd "$work/repo" && apt-get -qq download ethtool && dpkg-scanpackages . >Packages 2>/dev/null)

cat >"$work/customize" <<HOOK
set -eu
root=\$1
chroot "\$root" useradd -m -s /bin/bash me
chroot "\$root" useradd -m -s /bin/bash guest
echo 'me ALL=(ALL) NOPASSWD: ALL' >"\$root/etc/sudoers.d/me"
for user in me guest; do
  mkdir "\$root/home/\$user/.ssh"
  cp "$out/user_key.pub" "\$root/home/\$user/.ssh/authorized_keys"
  chroot "\$root" chown -R \$user:\$user /home/\$user/.ssh
done
mkdir -p "\$root/srv/repo"
cp "$work/repo"/* "\$root/srv/repo/"
rm -f "\$root"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repo ./' >"\$root/etc/apt/sources.list"
echo vm >"\$root/etc/hostname"
printf '127.0.0.1 localhost vm\n' >"\$root/etc/hosts"
echo '/dev/vda / ext4 defaults 0 0' >"\$root/etc/fstab"
printf 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n' >"\$root/etc/default/grub"
mkdir -p "\$root/boot/grub"
# Software emulation is slow: nothing runs that no test looks at.
for unit in e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  fstrim.timer getty@tty1.service NetworkManager-wait-online.service; do
  ln -sf /dev/null "\$root/etc/systemd/system/\$unit"
done
HOOK
without=""
for folder in doc man locale info; do without="$without --dpkgopt=path-exclude=/usr/share/$folder/*"; done
mmdebstrap --mode=root --variant=minbase --quiet $without --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,udev,dbus,netbase,libpam-systemd,network-manager,firewalld,openssh-server,grub2-common,python3,sudo,iproute2,polkitd,linux-image-cloud-amd64,initramfs-tools,zstd \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/halo"; printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"' \
  --customize-hook="sh $work/customize \"\$1\"" bookworm "$work/root" http://deb.debian.org/debian
cp "$work/root/etc/ssh/ssh_host_ed25519_key.pub" "$out/host_key.pub"
cp "$work"/root/boot/vmlinuz-* "$out/vmlinuz"
cp "$work"/root/boot/initrd.img-* "$out/initrd"
rm -f "$out/root.ext4"
mke2fs -q -t ext4 -d "$work/root" "$out/root.ext4" 1500M
