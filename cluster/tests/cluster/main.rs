//! halo-cluster as a user meets it: its commands, what they print, and launches of stand-ins for Ray and vLLM.

/// The text is as the snapshot of this name has it: what a user sees.
macro_rules! shows {
    ($name:expr, $text:expr) => {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, $text)
        })
    };
}

mod configure;
mod disk;
mod doctor;
mod errors;
mod examples;
mod init;
mod launch;
mod launch_options;
mod menu;
mod models;
mod pages;
mod support;
mod top;
mod verify;
