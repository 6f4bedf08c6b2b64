//! The tuner, through every version of its interface.

use halo::plugin::abi::INVALID_USAGE;
use halo::plugin::abi::tuner::{
    ALGORITHM_RING, ALGORITHM_TREE, PROTOCOL_LL, PROTOCOL_LL128, PROTOCOL_SIMPLE,
};
use halo_tuner::{Algorithm, Collective, Link, Protocol, Table};
use libloading::Library;

use super::{Setting, expect};
use crate::Outcome;
use crate::plugin::warnings;
use crate::tuner::{Answer, Tuner};

/// The core's number of an all-reduce, and of a broadcast.
const ALL_REDUCE: i32 = 4;
const BROADCAST: i32 = 0;
/// In every communicator here.
const RANKS: usize = 2;

/// Has `work` look at a tuner of each version.
fn each_version(library: &Library, hosts: usize, work: impl Fn(u32, &Tuner) -> Outcome) -> Outcome {
    for version in Tuner::VERSIONS {
        let at = |error: Box<dyn std::error::Error>| format!("version {version}, {hosts} hosts: {error}");
        let tuner = Tuner::open(library, version, RANKS, hosts).map_err(at)?;
        work(version, &tuner).map_err(at)?;
        tuner.close()?;
    }
    Ok(())
}

/// Small all-reduces between hosts are low-latency, large ones are not, the rest is left alone, and so is one host. With a
/// file of one's own, its rules hold instead.
pub(super) fn tuner(setting: &Setting<'_>) -> Outcome {
    let file = std::env::var("HALO_TUNER_FILE").ok();
    for hosts in [1, 2] {
        each_version(setting.plugin.library(), hosts, |version, tuner| {
            match file.as_deref() {
                Some(path) if hosts > 1 && path != "off" => {
                    as_the_file_says(&Table::from_file(path)?, tuner)?;
                }
                _ => as_built_in(hosts == 1 || file.is_some(), tuner)?,
            }
            // Version 2 names its choice, and the core checks it; later ones see what the core has ruled out.
            let preferred = tuner.ask(ALL_REDUCE, 8192, &[])?.preferred;
            if version > 2 && tuner.ask(ALL_REDUCE, 8192, &preferred)? != NOTHING && !preferred.is_empty() {
                return Err("it insists on what is ruled out".into());
            }
            println!("version {version}, {hosts} hosts: good");
            Ok(())
        })?;
    }
    Ok(())
}

/// The core's choice.
const NOTHING: Answer = Answer { preferred: Vec::new(), channels: -1 };

fn as_built_in(off: bool, tuner: &Tuner) -> Outcome {
    let small = tuner.ask(ALL_REDUCE, 8192, &[])?;
    let large = tuner.ask(ALL_REDUCE, 64 << 20, &[])?;
    let broadcast = tuner.ask(BROADCAST, 8192, &[])?;
    let low_latency = Answer { preferred: vec![(ALGORITHM_RING, PROTOCOL_LL)], channels: 1 };
    let wide = Answer { preferred: vec![(ALGORITHM_RING, PROTOCOL_SIMPLE)], channels: -1 };
    let wanted = if off { [NOTHING; 3] } else { [low_latency, wide, NOTHING] };
    if [&small, &large, &broadcast] == wanted.each_ref() {
        return Ok(());
    }
    Err(format!("{small:?} {large:?} {broadcast:?}").into())
}

/// At every size the file's answer, and somewhere not that of the built-in table: the file has been read.
fn as_the_file_says(table: &Table, tuner: &Tuner) -> Outcome {
    let built_in = Table::built_in();
    let mut changed = 0;
    for collective in BROADCAST..=ALL_REDUCE {
        for bytes in [1, 1024, 8192, 20_000, 50_000, 100_000, 1 << 20, 64 << 20] {
            let (got, wanted) = (tuner.ask(collective, bytes, &[])?, answer_of(table, collective, bytes));
            if got != wanted {
                return Err(format!("collective {collective}, {bytes} bytes: {got:?} for {wanted:?}").into());
            }
            changed += usize::from(wanted != answer_of(&built_in, collective, bytes));
        }
    }
    if changed == 0 {
        Err("the file says what the built-in table says: nothing is shown".into())
    } else {
        Ok(())
    }
}

/// What a table says to the core about two ranks over TCP.
fn answer_of(table: &Table, collective: i32, bytes: usize) -> Answer {
    let known = Collective::from_core(collective);
    let Some(rule) = known.and_then(|known| table.find(known, RANKS, bytes as u64, Link::Tcp)) else {
        return NOTHING;
    };
    let algorithm = match rule.algorithm {
        Algorithm::Tree => ALGORITHM_TREE,
        Algorithm::Ring => ALGORITHM_RING,
    };
    let protocol = match rule.protocol {
        Protocol::Ll => PROTOCOL_LL,
        Protocol::Ll128 => PROTOCOL_LL128,
        Protocol::Simple => PROTOCOL_SIMPLE,
    };
    Answer {
        preferred: vec![(algorithm, protocol)],
        channels: rule.channels.map_or(-1, |count| count as i32),
    }
}

/// A file that is no table is refused by every version, with one line that names it; the core then has no tuner.
pub(super) fn tuner_refused(setting: &Setting<'_>) -> Outcome {
    let library = setting.plugin.library();
    let file = std::env::temp_dir().join(format!("halo-tuner-{}.toml", std::process::id()));
    std::fs::write(
        &file,
        "[[rule]]\ncollective = \"all_reduce\"\nalgorithm = \"ring\"\nprotocol = \"fast\"\n",
    )?;
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("HALO_TUNER_FILE", &file) };
    let result = refused_by_each(library, &file.to_string_lossy());
    std::fs::remove_file(&file)?;
    result
}

fn refused_by_each(library: &Library, file: &str) -> Outcome {
    for version in Tuner::VERSIONS {
        let before = warnings().len();
        let refused = Tuner::open(library, version, RANKS, 2).err().map(|error| error.to_string());
        let told = warnings().split_off(before);
        let why = format!("version {version}: {refused:?}, {told:?}");
        expect(&why, refused == Some(format!("the tuner's init answered {INVALID_USAGE}")))?;
        expect(
            &why,
            told.len() == 1 && ["HALO-E0819", file, "fast"].iter().all(|word| told[0].contains(word)),
        )?;
    }
    // On one host no table is asked for.
    each_version(library, 1, |_, tuner| as_built_in(true, tuner))
}
