//! What the network cards counted: whether a measurement went the way it should.

use std::collections::BTreeMap;

use super::paths::{Carrier, Path};
use super::result::size;

/// Counters of RDMA devices, and how many bytes each count stands for at least.
const RDMA_COUNTERS: [(&str, u64); 5] =
    [("port_xmit_data", 4), ("tx_bytes", 1), ("ip4OutOctets", 1), ("sent_pkts", 1024), ("OutOctets", 1)];

/// Whether what was sent went over this interface: its counters rose by at least the payload, or why not.
pub fn proof(path: &Path, counted: &BTreeMap<String, u64>, payload: u64) -> Result<String, String> {
    let end = &path.ends[0];
    let seen = match path.carrier {
        Carrier::Tcp => {
            counted.get("tx_bytes").copied().unwrap_or(0).max(counted.get("rx_bytes").copied().unwrap_or(0))
        }
        Carrier::Rdma => {
            let bytes = |(name, unit): &(&str, u64)| counted.get(*name).map(|count| count * unit);
            RDMA_COUNTERS.iter().filter_map(bytes).max().unwrap_or(0)
        }
    };
    let by = match (&end.rdma, path.carrier) {
        (Some(device), Carrier::Rdma) => device,
        _ => &end.interface,
    };
    let words = |bytes: u64| if bytes >= 1 << 20 { size(bytes & !((1 << 20) - 1)) } else { size(bytes) };
    if seen >= payload {
        return Ok(format!("{} over {by}", words(seen)));
    }
    Err(format!("{by} counted {} while {} were sent: they went another way", words(seen), words(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::measure::tests::path;

    #[test]
    fn bytes_that_the_card_did_not_count_went_another_way() {
        let counted = |name: &str, count: u64| BTreeMap::from([(name.to_owned(), count)]);
        let tcp = path(Carrier::Tcp);
        assert_eq!(proof(&tcp, &counted("tx_bytes", 3 << 20), 2 << 20).unwrap(), "3 MiB over enp1s0");
        assert_eq!(
            proof(&tcp, &counted("tx_bytes", 4096), 2 << 20).unwrap_err(),
            "enp1s0 counted 4 KiB while 2 MiB were sent: they went another way"
        );
        let rdma = path(Carrier::Rdma);
        assert_eq!(proof(&rdma, &counted("port_xmit_data", 1 << 20), 4 << 20).unwrap(), "4 MiB over irdma0");
        assert!(proof(&rdma, &counted("unknown", 1 << 30), 4 << 20).is_err());
    }
}
