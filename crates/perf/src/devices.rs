//! `halo-perf devices`: RDMA devices, their ports and GIDs, and which one halo takes for each address of this host.

use std::process::ExitCode;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use halo_verbs::{Context, GidKind, TransportKind, devices};
use serde::Serialize;

use crate::args::DeviceOptions;
use crate::error::Error;

/// One entry of a port's GID table, with its device and port.
#[derive(Debug, Serialize)]
struct Entry {
    device: String,
    port: u8,
    state: String,
    link_layer: String,
    mtu: u32,
    gid_index: Option<u32>,
    gid_type: Option<String>,
    address: Option<String>,
    interface: Option<String>,
    /// Whether halo takes it for this address.
    chosen: bool,
    note: Option<&'static str>,
}

/// Prints the devices; a host without any is an error that says what is missing.
pub(crate) fn show(options: &DeviceOptions) -> Result<ExitCode, Error> {
    let found = devices()?;
    if found.is_empty() {
        return Err(halo_verbs::Error::NoDevices.into());
    }
    let mut entries = Vec::new();
    for device in &found {
        let context = Context::open(&device.name)?;
        for port in 1..=context.ports()? {
            add_port(&context, port, &mut entries)?;
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&entries).expect("entries are plain data"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["device", "port", "state", "link", "MTU", "GID", "type", "address", "interface", ""]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for entry in entries {
        let mark = if entry.chosen { "chosen for this address" } else { entry.note.unwrap_or_default() };
        table.add_row([
            entry.device,
            entry.port.to_string(),
            entry.state,
            entry.link_layer,
            entry.mtu.to_string(),
            or_dash(entry.gid_index.map(|index| index.to_string())),
            or_dash(entry.gid_type),
            or_dash(entry.address),
            or_dash(entry.interface),
            mark.to_owned(),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn add_port(context: &Context, number: u8, entries: &mut Vec<Entry>) -> Result<(), Error> {
    let port = context.port(number)?;
    let iwarp = context.device().transport == TransportKind::Iwarp;
    let entry = || Entry {
        device: context.name().to_owned(),
        port: number,
        state: format!("{:?}", port.state),
        link_layer: format!("{:?}", port.link_layer),
        mtu: port.mtu,
        gid_index: None,
        gid_type: None,
        address: None,
        interface: None,
        chosen: false,
        note: iwarp.then_some("iWARP, not RoCE: not usable"),
    };
    let gids = context.gids(number)?;
    if gids.is_empty() {
        entries.push(entry());
    }
    for gid in gids {
        let address = gid.address();
        let chosen = gid.kind == GidKind::RoceV2
            && address.is_ipv4()
            && halo_verbs::choose(address, &[]).is_ok_and(|choice| {
                (choice.context.name(), choice.port.number, choice.gid.index)
                    == (context.name(), number, gid.index)
            });
        entries.push(Entry {
            gid_index: Some(gid.index),
            gid_type: Some(gid.kind.to_string()),
            address: Some(address.to_string()),
            interface: gid.interface,
            chosen,
            ..entry()
        });
    }
    Ok(())
}
