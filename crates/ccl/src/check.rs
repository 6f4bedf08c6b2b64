//! What a request must be like before anybody hears of it.

use crate::dtype::DType;
use crate::error::Error;
use crate::reduce_op::ReduceOp;

/// The type has this reduction.
pub(crate) fn arithmetic(operation: &'static str, dtype: DType, op: ReduceOp) -> Result<(), Error> {
    if op.is_defined_for(dtype) {
        return Ok(());
    }
    Err(Error::NoArithmetic { operation, op: op.name(), dtype: dtype.name() })
}

/// A buffer holds no broken element.
pub(crate) fn whole_elements(
    operation: &'static str,
    buffer: &'static str,
    bytes: usize,
    dtype: DType,
) -> Result<(), Error> {
    if bytes.is_multiple_of(dtype.size()) {
        return Ok(());
    }
    let expected = format!("which is no whole number of {dtype} elements of {} bytes", dtype.size());
    Err(Error::BufferSize { operation, buffer, given: bytes, expected })
}

/// A buffer has the length that another one asks for.
pub(crate) fn same_size(
    operation: &'static str,
    buffer: &'static str,
    given: usize,
    wanted: usize,
    rule: &str,
) -> Result<(), Error> {
    if given == wanted {
        return Ok(());
    }
    Err(Error::BufferSize { operation, buffer, given, expected: format!("{wanted} are needed: {rule}") })
}

/// A buffer is `world` blocks long; the length of a block.
pub(crate) fn blocks(
    operation: &'static str,
    buffer: &'static str,
    bytes: usize,
    world: usize,
    dtype: DType,
) -> Result<usize, Error> {
    whole_elements(operation, buffer, bytes, dtype)?;
    if (bytes / dtype.size()).is_multiple_of(world) {
        return Ok(bytes / world);
    }
    let expected = format!("which is no whole number of {dtype} elements for each of {world} ranks");
    Err(Error::BufferSize { operation, buffer, given: bytes, expected })
}

/// The root is one of the ranks.
pub(crate) fn root(operation: &'static str, root: usize, world: usize) -> Result<(), Error> {
    if root < world {
        return Ok(());
    }
    Err(Error::BadRank { operation, given: root, expected: format!("a rank of world {world}") })
}

/// The peer is another one of the ranks.
pub(crate) fn peer(operation: &'static str, peer: usize, rank: usize, world: usize) -> Result<(), Error> {
    if peer < world && peer != rank {
        return Ok(());
    }
    Err(Error::BadRank { operation, given: peer, expected: format!("another rank of world {world}") })
}
