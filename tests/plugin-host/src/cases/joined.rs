//! Several devices as one.

use halo::plugin::abi::{INVALID_ARGUMENT, INVALID_USAGE};

use super::Setting;
use crate::link::{Buffer, Link};
use crate::pattern::Sequence;
use crate::plugin::{Plugin, Version};
use crate::{Outcome, until};

fn expect(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned().into()) }
}

/// What cannot be one device is refused; two RDMA ports can, and carry messages together.
pub(super) fn joined(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    if plugin.version() == Version::V8 {
        println!("version 8 has no makeVDevice");
        return Ok(());
    }
    let refused = |members: &[i32]| plugin.make_virtual_device(members).map_err(|refused| refused.code);
    let count = plugin.devices()?;
    expect("one device is itself", refused(&[0]) == Ok(0))?;
    expect("none is refused", refused(&[]) == Err(INVALID_USAGE))?;
    expect("a device twice is refused", refused(&[0, 0]) == Err(INVALID_USAGE))?;
    expect("an unknown one is refused", refused(&[0, count]) == Err(INVALID_ARGUMENT))?;
    expect("nine are refused", refused(&[0; 9]) == Err(INVALID_ARGUMENT))?;
    let rdma = |number: &i32| {
        let name = plugin.properties(*number).map(|properties| properties.name).unwrap_or_default();
        std::path::Path::new("/sys/class/infiniband").join(name).exists()
    };
    let ports: Vec<_> = (0..count).filter(rdma).collect();
    if ports.len() < 2 {
        if count > 1 {
            expect("TCP is refused", refused(&[0, 1]) == Err(INVALID_USAGE))?;
        }
        expect("nothing was added", plugin.devices()? == count)?;
        println!("one RDMA port or none: nothing to join");
        return Ok(());
    }
    let made = plugin.make_virtual_device(&ports[..2])?;
    describe(plugin, made, &ports[..2])?;
    expect("the same in another order", refused(&[ports[1], ports[0]]) == Ok(made))?;
    expect("the same again", refused(&ports[..2]) == Ok(made))?;
    expect("it is counted once", plugin.devices()? == count.max(made + 1))?;
    expect("several are not joined again", refused(&[ports[0], made]) == Err(INVALID_USAGE))?;

    let link = Link::new(plugin, setting.context, made)?;
    let mut chance = Sequence::new(11);
    let mut sizes: Vec<_> = (0..60).map(|_| chance.size(900_000)).collect();
    sizes.extend([0, 1, 16384, 16385, 4 << 20]);
    link.stream(&sizes, 8, 9, 1)?;
    foreign_memory(setting, &link, made, ports[0])?;
    link.close()?;

    // The two sides need not have as many ports: those that have none in their network on the other side are left out.
    for port in &ports[..2] {
        for (calling, listening) in [(*port, made), (made, *port)] {
            let link = Link::between(plugin, setting.context, calling, listening)?;
            link.stream(&sizes[..20], 4, 0, 500)?;
            link.close()?;
        }
    }
    Ok(())
}

/// The properties of a device that is several.
fn describe(plugin: &Plugin, made: i32, members: &[i32]) -> Outcome {
    let properties = plugin.properties(made)?;
    println!("device {made}: {properties:?}");
    let each = members.iter().map(|number| plugin.properties(*number)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = each.iter().map(|member| member.name.as_str()).collect();
    expect("the names of all", properties.name == names.join("+"))?;
    expect("the speed of all", properties.speed == each.iter().map(|member| member.speed).sum::<i32>())?;
    expect("the guid of the first", properties.guid == each[0].guid)?;
    expect("the place of the first", properties.pci_path == each[0].pci_path)?;
    expect("its members", properties.virtual_devices.as_deref() == Some(members))?;
    expect("what the NICs take", properties.ptr_support == each[0].ptr_support)?;
    expect("the rest", properties.max_recvs == each[0].max_recvs && properties.reg_is_global == 1)?;
    expect("the members stay", each[0].virtual_devices.as_deref() == Some(&members[..1]))
}

/// Memory that is registered with one of the ports is not that of both.
fn foreign_memory(setting: &Setting<'_>, link: &Link<'_>, made: i32, port: i32) -> Outcome {
    let plugin = setting.plugin;
    let other = Link::new(plugin, setting.context, port)?;
    let mut bytes = vec![0u8; 100_000];
    let foreign = plugin.register(other.send, bytes.as_mut_ptr(), bytes.len())?;
    let answer = plugin.send(link.send, bytes.as_ptr(), bytes.len(), 3, foreign);
    expect(
        &format!("memory of device {port} on device {made}: {answer:?}"),
        answer.is_err_and(|refused| refused.code == INVALID_ARGUMENT),
    )?;
    // The same memory, registered with both at one time and given back by one.
    let own = plugin.register(link.send, bytes.as_mut_ptr(), bytes.len())?;
    plugin.deregister(other.send, foreign)?;
    let mut target = Buffer::new(plugin, link.receive, bytes.len())?;
    crate::pattern::fill(&mut bytes, 7);
    let part = target.part(100_000, 3);
    let receive = until("a receive", || Ok(plugin.receive(link.receive, &[part])?))?;
    let send = until("a send", || Ok(plugin.send(link.send, bytes.as_ptr(), 100_000, 3, own)?))?;
    crate::link::complete(plugin, &[receive, send])?;
    crate::pattern::check(target.bytes(), 7)?;
    plugin.deregister(link.send, own)?;
    other.close()
}
