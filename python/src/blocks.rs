//! An all-to-all whose blocks differ in size, as sends and receives that run all at once.

use halo_ccl::{Communicator, DType, Error, Request};

/// `to[i]` bytes of `input` go to rank i, `from[i]` bytes of `output` come from it; in rank order, without gaps.
pub(crate) fn all_to_all(
    communicator: &mut Communicator,
    mut input: &[u8],
    mut output: &mut [u8],
    dtype: DType,
    to: &[usize],
    from: &[usize],
) -> Result<(), Error> {
    let (rank, world) = (communicator.rank(), communicator.world());
    check("input", input.len(), to, world)?;
    check("output", output.len(), from, world)?;
    if to[rank] != from[rank] {
        let expected = format!("{} are sent to this rank itself", to[rank]);
        return Err(Error::BufferSize { operation: NAME, buffer: "output", given: from[rank], expected });
    }
    let mut requests = Vec::with_capacity(2 * world);
    for peer in 0..world {
        let (data, place);
        (data, input) = input.split_at(to[peer]);
        (place, output) = output.split_at_mut(from[peer]);
        if peer == rank {
            place.copy_from_slice(data);
        } else {
            requests.push(Request::Send { data, dtype, to: peer });
            requests.push(Request::Recv { data: place, dtype, from: peer });
        }
    }
    communicator.group(requests)
}

const NAME: &str = "all_to_all";

fn check(buffer: &'static str, given: usize, blocks: &[usize], world: usize) -> Result<(), Error> {
    // A sum that wrapped could be what is given, and the first block far beyond it.
    let wanted = blocks.iter().try_fold(0usize, |sum, block| sum.checked_add(*block));
    if blocks.len() == world && wanted == Some(given) {
        return Ok(());
    }
    let wanted = wanted.map_or("more than there is memory".to_owned(), |wanted| wanted.to_string());
    let expected = format!("its {} blocks have {wanted}; {world} blocks are needed", blocks.len());
    Err(Error::BufferSize { operation: NAME, buffer, given, expected })
}
