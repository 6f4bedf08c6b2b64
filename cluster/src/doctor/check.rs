//! The checks: what each is called on the command line, and the code that its failures carry.

use clap::ValueEnum;
use clap::builder::PossibleValue;

macro_rules! checks {
    ($($variant:ident $name:literal $code:literal $about:literal,)*) => {
        /// One thing that is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check { $(#[doc = $about] $variant,)* }

        impl Check {
            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The code of its failures, explained in docs/errors.md.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }

        impl ValueEnum for Check {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant,)*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                match self { $(Self::$variant => Some(PossibleValue::new($name).help($about)),)* }
            }
        }
    };
}

checks! {
    Ssh "ssh" "HALO-E0611" "the node is reached, logs in, and has python3",
    Sudo "sudo" "HALO-E0710" "root's rights without a password",
    Os "os" "HALO-E0711" "the distribution is one that was thought of",
    Kernel "kernel" "HALO-E0712" "the kernel is new enough",
    Gpu "gpu" "HALO-E0713" "an AMD GPU that ROCm's driver knows",
    Devices "devices" "HALO-E0714" "this user may open the GPU's and the NIC's device files",
    Memory "memory" "HALO-E0715" "the GPU may use nearly all memory",
    KernelArguments "kernel-arguments" "HALO-E0716" "the kernel runs with the arguments it should",
    Nic "nic" "HALO-E0717" "the data interface is there, with the driver of its kind",
    Roce "roce" "HALO-E0718" "the NIC speaks RoCE v2, not iWARP",
    Firmware "firmware" "HALO-E0719" "the NIC's firmware is new enough",
    Pcie "pcie" "HALO-E0720" "the NIC's slot is wide and fast enough",
    Cable "cable" "HALO-E0721" "the other end of the cable answers",
    Speed "speed" "HALO-E0722" "the link is as fast on every node",
    Mtu "mtu" "HALO-E0723" "the data interface has the MTU of the configuration",
    Frames "frames" "HALO-E0724" "frames of that size reach every other node and return (tried)",
    Address "address" "HALO-E0725" "the data address is on the data interface",
    Routes "routes" "HALO-E0726" "the data network is reached by it, and nothing else is",
    Gid "gid" "HALO-E0727" "the NIC has a RoCE v2 GID for the data address",
    Firewall "firewall" "HALO-E0728" "connections to every other node come through (tried)",
    Memlock "memlock" "HALO-E0729" "processes may lock as much memory as they want",
    RemoveIpc "remove-ipc" "HALO-E0731" "systemd leaves shared memory at logout",
    Clock "clock" "HALO-E0732" "the clocks agree",
    RdmaCore "rdma-core" "HALO-E0733" "rdma-core is installed and the same everywhere",
    Container "container" "HALO-E0734" "the container exists and has the devices",
    Packages "packages" "HALO-E0735" "the system packages are installed",
    Versions "versions" "HALO-E0736" "Python, vLLM, Ray, halo, ROCm and RCCL are there and the same everywhere",
    Model "model" "HALO-E0737" "the model is there, or there is room for it",
    Port "port" "HALO-E0738" "the API's port is free on the head",
    Power "power" "HALO-E0739" "the power profile is the fast one",
}
