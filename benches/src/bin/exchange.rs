//! Both of two ranks send to each other at once, over TCP or by verbs, and add what has come.

use std::net::IpAddr;

use clap::{Parser, ValueEnum};
use halo_benches::exchange::{By, Exchange, Outcome, Pair, Partner, Socket, Uring, Verbs, Zerocopy, measure};
use halo_benches::line::{Work, pin};

/// One of two ranks; rank 0 prints a line for each size and each exchange.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    rank: usize,
    /// Where rank 0 listens.
    #[arg(long, value_name = "HOST:PORT")]
    rendezvous: String,
    /// This rank's address on the RDMA network; without it, TCP to where rank 0 listens.
    #[arg(long)]
    address: Option<IpAddr>,
    /// By which calls, over TCP.
    #[arg(long, value_enum, default_value_t = By::Plain, conflicts_with = "address")]
    by: By,
    /// One exchange alone.
    #[arg(long)]
    only: Option<Exchange>,
    #[arg(value_name = "BYTES:ITERATIONS")]
    work: Vec<Work>,
}

fn main() -> Outcome {
    let arguments = Arguments::parse();
    pin(arguments.rank);
    let most = arguments.work.iter().map(|work| work.bytes).max().unwrap_or(0);
    let mut partner = Partner::connect(arguments.rank, &arguments.rendezvous)?;
    match (arguments.address, arguments.by) {
        (Some(address), _) => {
            run(&arguments, &mut Verbs::connect(&mut partner, address, most)?, &mut partner)
        }
        (None, By::Plain) => run(&arguments, &mut Socket::connect(&mut partner, most)?, &mut partner),
        (None, By::Zerocopy) => run(&arguments, &mut Zerocopy::connect(&mut partner, most)?, &mut partner),
        (None, By::Uring) => run(&arguments, &mut Uring::connect(&mut partner, most)?, &mut partner),
    }
}

fn run(arguments: &Arguments, pair: &mut impl Pair, partner: &mut Partner) -> Outcome {
    let exchanges = arguments.only.as_ref().map_or(Exchange::value_variants(), std::slice::from_ref);
    for work in &arguments.work {
        for exchange in exchanges {
            let Some(peer) = arguments.by.peer(*exchange) else { continue };
            let line = measure(pair, partner, *work, *exchange)?;
            if partner.rank == 0 {
                println!("@ {} {}", peer.tag(), serde_json::to_string(&line)?);
            }
        }
    }
    Ok(())
}
