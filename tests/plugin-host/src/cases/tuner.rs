//! The tuner, through every version of its interface.

use std::ffi::c_void;
use std::ptr::null_mut;

use halo::plugin::abi::tuner::{
    ALGORITHM_RING, COST_IGNORE, PROTOCOL_LL, PROTOCOL_SIMPLE, TunerV2, TunerV3, TunerV4, TunerV5, TunerV6,
};

use super::Setting;
use crate::Outcome;

/// The core's number of an all-reduce, and of a broadcast.
const ALL_REDUCE: i32 = 4;
const BROADCAST: i32 = 0;
const ALGORITHMS: usize = 7;
const PROTOCOLS: usize = 3;

fn check(code: i32) -> Outcome {
    if code == 0 { Ok(()) } else { Err(format!("the tuner answered {code}").into()) }
}

/// What a tuner made of a question: the pairs it made free of cost, and the channels.
#[derive(Debug, PartialEq)]
struct Answer {
    preferred: Vec<(i32, i32)>,
    channels: i32,
}

/// One version's `getCollInfo`: collective, bytes, costs, channels.
struct Tuner<'a>(&'a dyn Fn(i32, usize, *mut f32, *mut i32) -> i32);

impl Tuner<'_> {
    fn ask(&self, collective: i32, bytes: usize, ruled_out: &[(i32, i32)]) -> Outcome<Answer> {
        let mut costs = [[5.0f32; PROTOCOLS]; ALGORITHMS];
        for (algorithm, protocol) in ruled_out {
            costs[*algorithm as usize][*protocol as usize] = COST_IGNORE;
        }
        let mut channels = -1;
        let code = self.0(collective, bytes, costs.as_mut_ptr().cast(), &raw mut channels);
        if code != 0 {
            return Err(format!("getCollInfo answered {code}").into());
        }
        let all = (0..ALGORITHMS as i32).flat_map(|a| (0..PROTOCOLS as i32).map(move |p| (a, p)));
        let preferred = all.filter(|(a, p)| costs[*a as usize][*p as usize] == 0.0).collect();
        for (algorithm, protocol) in ruled_out {
            if costs[*algorithm as usize][*protocol as usize] != COST_IGNORE {
                return Err("what the core has ruled out was ruled in".into());
            }
        }
        Ok(Answer { preferred, channels })
    }
}

/// Small all-reduces between hosts are low-latency, large ones are not, the rest is left alone, and so is one host.
pub(super) fn tuner(setting: &Setting<'_>) -> Outcome {
    let library = setting.plugin.library();
    let expect = |version: u32, hosts: usize, tuner: &Tuner<'_>| -> Outcome {
        let small = tuner.ask(ALL_REDUCE, 8192, &[])?;
        let large = tuner.ask(ALL_REDUCE, 64 << 20, &[])?;
        let broadcast = tuner.ask(BROADCAST, 8192, &[])?;
        let nothing = Answer { preferred: Vec::new(), channels: -1 };
        let off = hosts == 1 || std::env::var("HALO_TUNER_FILE").is_ok_and(|file| file == "off");
        let low_latency = Answer { preferred: vec![(ALGORITHM_RING, PROTOCOL_LL)], channels: 1 };
        let wide = Answer { preferred: vec![(ALGORITHM_RING, PROTOCOL_SIMPLE)], channels: -1 };
        let wanted = if off { [&nothing; 3] } else { [&low_latency, &wide, &nothing] };
        if [&small, &large, &broadcast] != wanted {
            return Err(format!("version {version}, {hosts} hosts: {small:?} {large:?} {broadcast:?}").into());
        }
        // Version 2 names its choice, and the core checks it; later ones see what the core has ruled out.
        if version > 2 && tuner.ask(ALL_REDUCE, 8192, &[(ALGORITHM_RING, PROTOCOL_LL)])? != nothing {
            return Err(format!("version {version} insists on what is ruled out").into());
        }
        println!("version {version}, {hosts} hosts: good");
        Ok(())
    };
    for hosts in [1, 2] {
        let mut context: *mut c_void = null_mut();
        // SAFETY: the symbols are these tables, and the calls are as the core makes them.
        unsafe {
            let table = *library.get::<&'static TunerV2>(b"ncclTunerPlugin_v2\0")?;
            check(table.init.expect("init")(2, hosts, None, &raw mut context))?;
            let ask = |collective, bytes, costs: *mut f32, channels| {
                let (mut algorithm, mut protocol) = (-1, -1);
                let get = table.get_coll_info.expect("getCollInfo");
                let code =
                    get(context, collective, bytes, 0, 0, 1, &raw mut algorithm, &raw mut protocol, channels);
                if algorithm >= 0 {
                    costs.add((algorithm * PROTOCOLS as i32 + protocol) as usize).write(0.0);
                }
                code
            };
            expect(2, hosts, &Tuner(&ask))?;
            check(table.destroy.expect("destroy")(context))?;

            let table = *library.get::<&'static TunerV3>(b"ncclTunerPlugin_v3\0")?;
            check(table.init.expect("init")(2, hosts, None, &raw mut context))?;
            let get = table.get_coll_info.expect("getCollInfo");
            let ask = |c, b, costs, n| get(context, c, b, 1, costs, ALGORITHMS as i32, PROTOCOLS as i32, n);
            expect(3, hosts, &Tuner(&ask))?;
            check(table.destroy.expect("destroy")(context))?;

            let table = *library.get::<&'static TunerV4>(b"ncclTunerPlugin_v4\0")?;
            check(table.init.expect("init")(2, hosts, None, &raw mut context))?;
            let get = table.get_coll_info.expect("getCollInfo");
            let ask =
                |c, b, costs, n| get(context, c, b, 1, costs, ALGORITHMS as i32, PROTOCOLS as i32, 0, n);
            expect(4, hosts, &Tuner(&ask))?;
            check(table.destroy.expect("destroy")(context))?;

            let table = *library.get::<&'static TunerV5>(b"ncclTunerPlugin_v5\0")?;
            check(table.init.expect("init")(&raw mut context, 7, 2, hosts, None, null_mut(), null_mut()))?;
            let get = table.get_coll_info.expect("getCollInfo");
            let ask =
                |c, b, costs, n| get(context, c, b, 1, costs, ALGORITHMS as i32, PROTOCOLS as i32, 0, n);
            expect(5, hosts, &Tuner(&ask))?;
            check(table.finalize.expect("finalize")(context))?;

            let table = *library.get::<&'static TunerV6>(b"ncclTunerPlugin_v6\0")?;
            check(table.init.expect("init")(&raw mut context, 7, 2, hosts, None, null_mut(), null_mut()))?;
            let get = table.get_coll_info.expect("getCollInfo");
            let ask =
                |c, b, costs, n| get(context, c, b, 1, costs, ALGORITHMS as i32, PROTOCOLS as i32, 0, n);
            expect(6, hosts, &Tuner(&ask))?;
            check(table.finalize.expect("finalize")(context))?;
        }
    }
    Ok(())
}
