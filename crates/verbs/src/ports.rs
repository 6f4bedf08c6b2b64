//! Every port over which RoCE v2 can travel now, for those who use several at once.

use std::sync::Arc;

use crate::device::{Context, devices};
use crate::error::Error;
use crate::gid::{Choice, GidKind, split_name, usable};

/// Every active Ethernet port with each of its RoCE v2 GIDs: of the devices in `named` (`name` or `name:port`, in that
/// order), or of all if none is named. A port may so be there several times.
///
/// # Errors
/// No libibverbs; a named device that does not exist, cannot be opened, or has no port that is of use.
pub fn candidates(named: &[&str]) -> Result<Vec<Choice>, Error> {
    let all = devices()?;
    if all.is_empty() {
        return Err(Error::NoDevices);
    }
    let mut found: Vec<Choice> = Vec::new();
    for name in named {
        let (wanted, port) = split_name(name);
        let context = match found.iter().find(|earlier| earlier.context.name() == wanted) {
            Some(earlier) => Arc::clone(&earlier.context),
            None => Context::open(wanted)?,
        };
        let mut refused = Vec::new();
        let more = of_device(&context, port, &mut refused)?;
        if more.is_empty() {
            let looked_at = if refused.is_empty() { "no such port".to_owned() } else { refused.join("; ") };
            return Err(Error::NoGid { address: format!("any network on {name}"), looked_at });
        }
        found.extend(more);
    }
    if named.is_empty() {
        for device in all {
            // A device that cannot be used is none of the candidates; whoever wants it names it.
            let context = Context::open(&device.name);
            let more = context.and_then(|context| of_device(&context, None, &mut Vec::new()));
            found.extend(more.unwrap_or_default());
        }
    }
    Ok(found)
}

fn of_device(
    context: &Arc<Context>,
    wanted: Option<u8>,
    refused: &mut Vec<String>,
) -> Result<Vec<Choice>, Error> {
    let mut found = Vec::new();
    for number in (1..=context.ports()?).filter(|number| wanted.is_none_or(|wanted| wanted == *number)) {
        let port = context.port(number)?;
        if let Err(cause) = usable(context.device().transport, &port) {
            refused.push(format!("{} port {number}: {cause}", context.name()));
            continue;
        }
        let gids = context.gids(number)?.into_iter().filter(|gid| gid.kind == GidKind::RoceV2);
        let before = found.len();
        found.extend(gids.map(|gid| Choice { context: Arc::clone(context), port, gid }));
        if found.len() == before {
            refused.push(format!("{} port {number}: it has no RoCE v2 GID", context.name()));
        }
    }
    Ok(found)
}
