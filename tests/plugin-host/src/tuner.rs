//! One face over all versions of the tuner's interface.

use std::ffi::c_void;
use std::ptr::null_mut;

use halo::plugin::abi::SUCCESS;
use halo::plugin::abi::tuner::{COST_IGNORE, TunerV2, TunerV3, TunerV4, TunerV5, TunerV6};
use libloading::Library;

use crate::Outcome;

/// The size of the newest core's table of costs.
const ALGORITHMS: usize = 7;
const PROTOCOLS: usize = 3;

#[derive(Clone, Copy)]
enum Table {
    V2(&'static TunerV2),
    V3(&'static TunerV3),
    V4(&'static TunerV4),
    V5(&'static TunerV5),
    V6(&'static TunerV6),
}

/// What a tuner made of a question: the pairs it made free of cost, and the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Algorithm and protocol, by the core's numbers.
    pub preferred: Vec<(i32, i32)>,
    /// -1: the core decides.
    pub channels: i32,
}

/// One communicator's tuner.
pub struct Tuner {
    table: Table,
    context: *mut c_void,
}

fn check(call: &str, code: i32) -> Outcome {
    if code == SUCCESS { Ok(()) } else { Err(format!("the tuner's {call} answered {code}").into()) }
}

impl Tuner {
    /// Every version, oldest first.
    pub const VERSIONS: std::ops::RangeInclusive<u32> = 2..=6;

    /// A tuner for a communicator of so many ranks on so many hosts.
    ///
    /// # Errors
    /// The library has no such version, or the tuner's answer.
    pub fn open(library: &Library, version: u32, ranks: usize, hosts: usize) -> Outcome<Self> {
        let symbol = format!("ncclTunerPlugin_v{version}\0");
        // SAFETY: the symbol is the table itself, which stays: the library is never really unloaded (nodelete).
        let table = unsafe {
            match version {
                2 => Table::V2(*library.get::<&'static TunerV2>(&symbol)?),
                3 => Table::V3(*library.get::<&'static TunerV3>(&symbol)?),
                4 => Table::V4(*library.get::<&'static TunerV4>(&symbol)?),
                5 => Table::V5(*library.get::<&'static TunerV5>(&symbol)?),
                6 => Table::V6(*library.get::<&'static TunerV6>(&symbol)?),
                other => return Err(format!("there is no version {other}").into()),
            }
        };
        let (mut context, none) = (null_mut(), null_mut());
        let at = &raw mut context;
        // SAFETY: the core's contract. Without a logger the net plugin's stays.
        let code = unsafe {
            match table {
                Table::V2(table) => table.init.expect("init")(ranks, hosts, None, at),
                Table::V3(table) => table.init.expect("init")(ranks, hosts, None, at),
                Table::V4(table) => table.init.expect("init")(ranks, hosts, None, at),
                Table::V5(table) => table.init.expect("init")(at, 7, ranks, hosts, None, none, none),
                Table::V6(table) => table.init.expect("init")(at, 7, ranks, hosts, None, none, none),
            }
        };
        check("init", code)?;
        Ok(Self { table, context })
    }

    /// Asks for one collective, all of whose pairs cost the same but those that the core has `ruled_out`.
    ///
    /// # Errors
    /// The tuner's answer, or it rules in what is ruled out.
    pub fn ask(&self, collective: i32, bytes: usize, ruled_out: &[(i32, i32)]) -> Outcome<Answer> {
        let mut costs = [[5.0f32; PROTOCOLS]; ALGORITHMS];
        for (algorithm, protocol) in ruled_out {
            costs[*algorithm as usize][*protocol as usize] = COST_IGNORE;
        }
        let mut channels = -1;
        self.get(collective, bytes, &mut costs, &mut channels)?;
        let all = (0..ALGORITHMS as i32).flat_map(|a| (0..PROTOCOLS as i32).map(move |p| (a, p)));
        let preferred = all.filter(|(a, p)| costs[*a as usize][*p as usize] == 0.0).collect();
        for (algorithm, protocol) in ruled_out {
            if costs[*algorithm as usize][*protocol as usize] != COST_IGNORE {
                return Err("what the core has ruled out was ruled in".into());
            }
        }
        Ok(Answer { preferred, channels })
    }

    fn get(
        &self,
        collective: i32,
        bytes: usize,
        costs: &mut [[f32; PROTOCOLS]; ALGORITHMS],
        channels: &mut i32,
    ) -> Outcome {
        let (context, table, channels) = (self.context, costs.as_mut_ptr().cast::<f32>(), &raw mut *channels);
        let (rows, columns) = (ALGORITHMS as i32, PROTOCOLS as i32);
        // SAFETY: the core's contract; the table has as many rows and columns as it says.
        let code = unsafe {
            match self.table {
                Table::V2(tuner) => {
                    // It names its choice; the core makes that free of cost itself.
                    let (mut algorithm, mut protocol) = (-1, -1);
                    let (a, p) = (&raw mut algorithm, &raw mut protocol);
                    let get = tuner.get_coll_info.expect("getCollInfo");
                    let code = get(context, collective, bytes, 0, 0, 1, a, p, channels);
                    if algorithm >= 0 {
                        costs[algorithm as usize][protocol as usize] = 0.0;
                    }
                    code
                }
                Table::V3(tuner) => {
                    let get = tuner.get_coll_info.expect("getCollInfo");
                    get(context, collective, bytes, 1, table, rows, columns, channels)
                }
                Table::V4(tuner) => {
                    let get = tuner.get_coll_info.expect("getCollInfo");
                    get(context, collective, bytes, 1, table, rows, columns, 0, channels)
                }
                Table::V5(tuner) => {
                    let get = tuner.get_coll_info.expect("getCollInfo");
                    get(context, collective, bytes, 1, table, rows, columns, 0, channels)
                }
                Table::V6(tuner) => {
                    let get = tuner.get_coll_info.expect("getCollInfo");
                    get(context, collective, bytes, 1, table, rows, columns, 0, channels)
                }
            }
        };
        check("getCollInfo", code)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The tuner's answer.
    pub fn close(self) -> Outcome {
        // SAFETY: the core's contract.
        let code = unsafe {
            match self.table {
                Table::V2(table) => table.destroy.expect("destroy")(self.context),
                Table::V3(table) => table.destroy.expect("destroy")(self.context),
                Table::V4(table) => table.destroy.expect("destroy")(self.context),
                Table::V5(table) => table.finalize.expect("finalize")(self.context),
                Table::V6(table) => table.finalize.expect("finalize")(self.context),
            }
        };
        check("end", code)
    }
}
