//! Setting connections up: many, late, again, and beside strangers.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};

use halo::plugin::abi::REMOTE_ERROR;

use super::{Setting, expect};
use crate::link::Link;
use crate::plugin::warnings;
use crate::{Outcome, until};

/// Many connections at one time, all of them being set up between one another's steps.
pub(super) fn storm(setting: &Setting<'_>) -> Outcome {
    const CONNECTIONS: usize = 48;
    let plugin = setting.plugin;
    let mut halves = Vec::new();
    for _ in 0..CONNECTIONS {
        let (listener, handle) = plugin.listen(setting.context, setting.device)?;
        halves.push((listener, handle, None, None));
    }
    until("all connections", || {
        for (listener, handle, send, receive) in &mut halves {
            if send.is_none() {
                *send = plugin.connect(setting.context, setting.device, handle)?;
            }
            if receive.is_none() {
                *receive = plugin.accept(*listener)?;
            }
        }
        Ok(halves.iter().all(|half| half.2.is_some() && half.3.is_some()).then_some(()))
    })?;
    for (number, (listener, _, send, receive)) in halves.into_iter().enumerate() {
        let link = Link { plugin, send: send.ok_or("a sender")?, receive: receive.ok_or("a receiver")? };
        link.exchange(10_000, number as u64)?;
        plugin.close_listen(listener)?;
        link.close()?;
    }
    Ok(())
}

/// One listener serves several connections, one after the other and two at once.
pub(super) fn listener_again(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let (listener, handle) = plugin.listen(setting.context, setting.device)?;
    let first = Link::at(plugin, setting.context, setting.device, listener, handle)?;
    first.exchange(1000, 1)?;
    let second = Link::at(plugin, setting.context, setting.device, listener, handle)?;
    second.exchange(1000, 2)?;
    first.exchange(1000, 3)?;
    first.close()?;
    let third = Link::at(plugin, setting.context, setting.device, listener, handle)?;
    plugin.close_listen(listener)?;
    third.exchange(100_000, 4)?;
    second.exchange(100_000, 5)?;
    second.close()?;
    third.close()
}

/// The core closes its listener as soon as one caller was accepted, whatever the callers are at: the one that was accepted
/// stands when its `connect` comes to it, and one that was not is told, and does not wait for ever.
pub(super) fn close_listen(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    for round in 0..20 {
        let (listener, handle) = plugin.listen(setting.context, 0)?;
        let (mut accepted, mut pending) = (handle, handle);
        let mut send = None;
        let receive = until("an accept", || {
            // As late as can be: accept looks before the caller does.
            let receive = plugin.accept(listener)?;
            if receive.is_none() && send.is_none() {
                send = plugin.connect(setting.context, 0, &mut accepted)?;
            }
            Ok(receive)
        })?;
        // On its way, or not even begun; nobody will accept it.
        for _ in 0..round {
            if plugin.connect(setting.context, 0, &mut pending)?.is_some() {
                return Err("connected without having been accepted".into());
            }
        }
        plugin.close_listen(listener)?;
        let send = match send {
            Some(send) => send,
            None => until("the connect", || Ok(plugin.connect(setting.context, 0, &mut accepted)?))?,
        };
        let link = Link { plugin, send, receive };
        link.exchange(10_000, round)?;
        let before = warnings().len();
        let code = until("an error for the caller that is left", || {
            match plugin.connect(setting.context, 0, &mut pending) {
                Ok(None) => Ok(None),
                Ok(Some(_)) => Err("connected to a listener that is closed".into()),
                Err(refused) => Ok(Some(refused.code)),
            }
        })?;
        let told = warnings().split_off(before);
        expect(&format!("a lost peer, not {code}"), code == REMOTE_ERROR)?;
        expect(
            &format!("one line for it: {told:?}"),
            told.len() == 1 && told[0].contains("HALO-E0806: ") && told[0].contains("cannot be reached from"),
        )?;
        link.exchange(100_000, round)?;
        link.close()?;
    }
    Ok(())
}

/// The caller knocks long before the listener looks; and an accept comes back empty-handed before anybody knocks.
pub(super) fn late_accept(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let (listener, mut handle) = plugin.listen(setting.context, setting.device)?;
    for _ in 0..1000 {
        if plugin.accept(listener)?.is_some() {
            return Err("accepted a connection that nobody made".into());
        }
    }
    let mut send = None;
    for _ in 0..20_000 {
        send = plugin.connect(setting.context, setting.device, &mut handle)?;
        if send.is_some() {
            return Err("connected without having been accepted".into());
        }
    }
    let (send, receive) = until("a late accept", || {
        let receive = plugin.accept(listener)?;
        if receive.is_some() {
            let send = match send {
                Some(send) => send,
                None => until("the late connect", || {
                    Ok(plugin.connect(setting.context, setting.device, &mut handle)?)
                })?,
            };
            return Ok(receive.map(|receive| (send, receive)));
        }
        if send.is_none() {
            send = plugin.connect(setting.context, setting.device, &mut handle)?;
        }
        Ok(None)
    })?;
    plugin.close_listen(listener)?;
    let link = Link { plugin, send, receive };
    link.exchange(50_000, 1)?;
    link.close()
}

/// Noise at the listener's port keeps nobody from connecting, and a damaged handle is refused.
pub(super) fn strangers(setting: &Setting<'_>) -> Outcome {
    let plugin = setting.plugin;
    let (listener, handle) = plugin.listen(setting.context, setting.device)?;
    // The handle's address, as `halo`'s own code lays it out: 16 bytes at 16, the port at 96.
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(&handle[16..32])?);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    let address = SocketAddr::new(address, u16::from_ne_bytes([handle[96], handle[97]]));
    let silent = TcpStream::connect(address)?;
    let mut noisy = TcpStream::connect(address)?;
    noisy.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut false_peer = TcpStream::connect(address)?;
    let mut preamble =
        *b"HALO\x01\0\0\0\x04\0\0\0\0\0\0\0................................!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!";
    preamble[16..].rotate_left(1);
    // The version is the listener's: what must give it away is the proof.
    preamble[4..8].copy_from_slice(&handle[8..12]);
    false_peer.write_all(&preamble)?;
    drop(TcpStream::connect(address)?);
    let link = Link::at(plugin, setting.context, setting.device, listener, handle)?;
    link.exchange(100_000, 1)?;
    drop((silent, noisy, false_peer));

    for at in [0, 8, 20, 40, 96, 112] {
        let mut damaged = handle;
        damaged[at] ^= 0x55;
        match plugin.connect(setting.context, setting.device, &mut damaged) {
            Err(refused) if refused.code == halo::plugin::abi::INVALID_ARGUMENT => {}
            // Another version is a matter of the other side.
            Err(refused) if at == 8 && refused.code == REMOTE_ERROR => {}
            other => return Err(format!("a handle damaged at {at} was answered with {other:?}").into()),
        }
    }
    plugin.close_listen(listener)?;
    link.close()
}
