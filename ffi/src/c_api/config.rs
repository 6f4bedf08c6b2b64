//! What a rank needs to know before it can meet the others.

use std::ffi::{c_char, c_void};
use std::sync::Once;
use std::time::Duration;

use halo_ccl::{Config as Settings, DType, FabricError, Key};

use crate::c_api::buffer::{Span, result, size, text};
use crate::c_api::error::Error;
use crate::c_api::status::{Status, boundary};

/// Everything one rank brings to `halo_communicator_connect`. Destroyed by `halo_config_free`.
pub struct Config {
    pub(crate) settings: Settings,
}

/// A configuration for rank `rank` of `world` ranks with every default and no look at the environment.
///
/// `*config` is set on success only, and destroyed by `halo_config_free`.
///
/// # Safety
/// `config` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_new(rank: u32, world: u32, config: *mut *mut Config) -> Status {
    const NAME: &str = "halo_config_new";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let place = unsafe { result(NAME, "config", config) }?;
        log_to_stderr();
        let settings = Settings::new(rank as usize, world as usize);
        place.write(Box::into_raw(Box::new(Config { settings })));
        Ok(())
    })
}

/// `halo_config_new` with every `HALO_*` variable of the environment applied (docs/environment.md). A variable that
/// cannot be read is an error. What is set afterwards wins.
///
/// # Safety
/// `config` is NULL or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_from_environment(
    rank: u32,
    world: u32,
    config: *mut *mut Config,
) -> Status {
    const NAME: &str = "halo_config_from_environment";
    boundary(NAME, || {
        // SAFETY: as this function's contract says.
        let place = unsafe { result(NAME, "config", config) }?;
        log_to_stderr();
        let settings = Settings::from_env(rank as usize, world as usize)?;
        place.write(Box::into_raw(Box::new(Config { settings })));
        Ok(())
    })
}

/// Destroys a configuration. NULL is allowed and does nothing.
///
/// # Safety
/// `config` is NULL or came from a function that made it, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_free(config: *mut Config) {
    if !config.is_null() {
        // SAFETY: made by Box::into_raw above, and given back once.
        drop(unsafe { Box::from_raw(config) });
    }
}

/// A name for logs, statistics and error messages. Default `halo`.
///
/// # Safety
/// `config` is NULL or a configuration that no other thread uses; `value` is NULL or text that ends with zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_name(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_name";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.name = given;
            Ok(())
        })
    }
}

/// Where rank 0 listens for the others, as `host:port`. Default `127.0.0.1:29510`.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_rendezvous(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_rendezvous";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.rendezvous = given;
            Ok(())
        })
    }
}

/// How payloads travel: `auto`, `rdma`, `tcp` or `shm`. A named transport that cannot be had is an error. Default
/// `auto`.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_transport(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_transport";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.transport = given.parse::<halo_ccl::TransportChoice>()?;
            Ok(())
        })
    }
}

/// The secret that ranks prove to each other: `length` bytes. It is copied. Without one (`length` 0) the rendezvous
/// must be a loopback address.
///
/// # Safety
/// `config` is NULL or a configuration that no other thread uses; `key` is NULL or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_key(
    config: *mut Config,
    key: *const c_void,
    length: usize,
) -> Status {
    const NAME: &str = "halo_config_set_key";
    change(NAME, config, |settings| {
        // SAFETY: as this function's contract says.
        let bytes = size(NAME, "length", length, DType::U8)?;
        // SAFETY: as this function's contract says.
        let key = unsafe { Span { address: key.addr(), bytes }.to_read(NAME, "key", key) }?;
        settings.key = (!key.is_empty()).then(|| Key::new(key));
        Ok(())
    })
}

/// The deadline of every wait, in seconds: connecting, and each collective. Default 30.
///
/// # Safety
/// `config` is NULL or a configuration that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_timeout(config: *mut Config, seconds: f64) -> Status {
    change("halo_config_set_timeout", config, |settings| {
        settings.timeout = duration("timeout", seconds)?;
        Ok(())
    })
}

/// Seconds of silence on a control connection after which a peer counts as lost. Default 3.
///
/// # Safety
/// As `halo_config_set_timeout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_peer_timeout(config: *mut Config, seconds: f64) -> Status {
    change("halo_config_set_peer_timeout", config, |settings| {
        settings.peer_timeout = duration("peer_timeout", seconds)?;
        Ok(())
    })
}

/// The network interface that carries the data, such as `enp1s0`. Default: the one that routes to the rendezvous.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_interface(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_interface";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.interface = Some(given);
            Ok(())
        })
    }
}

/// This rank's own data address, when the interface has several. Default: the interface's.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_address(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_address";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.address = Some(given.parse().map_err(|_| invalid("address", given, "an IP address"))?);
            Ok(())
        })
    }
}

/// The RDMA device, `name` or `name:port`, or several in a comma list. Default: the one whose GID matches the data
/// address, and every other one in a network that the peer also has.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_rdma_device(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_rdma_device";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.rdma_device = Some(given);
            Ok(())
        })
    }
}

/// The memory a rank keeps for each peer: `slots` (2 to 4096) of `slot_bytes` (a multiple of 64) each. Must be the
/// same on every rank. Default 8 slots of 131072 bytes.
///
/// # Safety
/// As `halo_config_set_timeout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_slots(
    config: *mut Config,
    slots: usize,
    slot_bytes: usize,
) -> Status {
    change("halo_config_set_slots", config, |settings| {
        (settings.slots, settings.slot_bytes) = (slots, slot_bytes);
        Ok(())
    })
}

/// How reductions of 16-bit and 8-bit floats are rounded: `once`, at the end, or after `each` step. Must be the same on
/// every rank. Default `once`.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_rounding(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_rounding";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.rounding = given.parse()?;
            Ok(())
        })
    }
}

/// A file with a plan table that `halo-perf tune` has written; the same on every rank. Default: a built-in table.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_plans(config: *mut Config, value: *const c_char) -> Status {
    const NAME: &str = "halo_config_set_plans";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.plans = Some(given);
            Ok(())
        })
    }
}

/// A file that is kept up to date with this rank's statistics as JSON; `{name}`, `{rank}` and `{pid}` are replaced.
/// Default: none.
///
/// # Safety
/// As `halo_config_set_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn halo_config_set_statistics_file(
    config: *mut Config,
    value: *const c_char,
) -> Status {
    const NAME: &str = "halo_config_set_statistics_file";
    // SAFETY: as this function's contract says.
    unsafe {
        change_text(NAME, config, value, |settings, given| {
            settings.stats_file = Some(given);
            Ok(())
        })
    }
}

/// Changes the settings behind a pointer that may be NULL.
fn change(
    function: &'static str,
    config: *mut Config,
    change: impl FnOnce(&mut Settings) -> Result<(), Error>,
) -> Status {
    boundary(function, || {
        // SAFETY: every setter's contract: NULL, or a configuration that no other thread uses.
        let config = unsafe { config.as_mut() }.ok_or(Error::Null { function, argument: "config" })?;
        change(&mut config.settings)
    })
}

/// Reads a text argument and has `set` put it in its place.
///
/// # Safety
/// `given` is NULL or points to text that ends with zero.
unsafe fn change_text(
    function: &'static str,
    config: *mut Config,
    given: *const c_char,
    set: impl FnOnce(&mut Settings, String) -> Result<(), Error>,
) -> Status {
    // SAFETY: the caller promises it.
    change(function, config, |settings| set(settings, unsafe { text(function, "value", given) }?))
}

fn duration(what: &'static str, seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid(what, seconds.to_string(), "a number of seconds"))
}

fn invalid(what: &'static str, given: String, expected: &'static str) -> Error {
    FabricError::InvalidConfig { what, given, expected }.into()
}

/// Logs as `HALO_LOG` says. A program that has set up logging of its own keeps it.
fn log_to_stderr() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = halo_env::HALO_LOG.get().unwrap_or_else(|| "warn".to_owned());
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
            .with_writer(std::io::stderr)
            .try_init();
    });
}
