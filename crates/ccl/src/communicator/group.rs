//! Several operations as one: small reductions travel together, and sends and receives run all at once.

use smallvec::SmallVec;

use super::Communicator;
use super::job::{AnyPlan, Job};
use crate::check;
use crate::dtype::DType;
use crate::error::Error;
use crate::operation::{Operation, digest};
use crate::plan::Exchange;
use crate::reduce_op::ReduceOp;
use crate::request::{Input, Request};

/// All-reduces up to this size are worth the copies that putting them together costs: below it the time is mostly that
/// of a message, whatever its size.
const PACKED_BYTES: usize = 16 * 1024;

/// An all-reduce that travels with others.
#[derive(Debug)]
struct Packed<'a> {
    input: Input<'a>,
    output: &'a mut [u8],
}

/// The all-reduces of one type and operation; up to this many are listed without memory of their own.
type Members<'a> = SmallVec<[Packed<'a>; 16]>;
type Reduction = (DType, ReduceOp);

impl Communicator {
    /// Does several operations, as one where that is faster: all-reduces of one type and operation up to 16 KiB each
    /// become one all-reduce (and count as one in the statistics), and sends and receives run all at once, so that
    /// their order cannot make ranks wait for each other. Every rank passes the same collectives in the same order.
    ///
    /// # Errors
    /// As [`Communicator::run`]. Refused arguments are found before anything is sent; where an operation's output begins
    /// with a copy of its input, that may be there already.
    pub fn group<'a>(&mut self, requests: impl IntoIterator<Item = Request<'a>>) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut packed = SmallVec::<[(Reduction, Members<'a>); 2]>::new();
        let mut others = SmallVec::<[Job<'a>; 2]>::new();
        let (mut exchange, mut last) = (Exchange::new(&self.mesh), None);
        let epoch = self.epoch;
        for request in requests {
            let accepted = match request {
                Request::AllReduce { input, output, dtype, op } if output.len() <= PACKED_BYTES => {
                    check_all_reduce(input, output, dtype, op).map(|()| {
                        let packed = members_of(&mut packed, (dtype, op));
                        packed.push(Packed { input, output });
                    })
                }
                Request::Send { data, dtype, to } => {
                    self.send_recv("send", data.len(), dtype, to).map(|operation| {
                        exchange.send(to, operation.tag(), data);
                        last = Some(together(last, operation));
                    })
                }
                Request::Recv { data, dtype, from } => {
                    self.send_recv("recv", data.len(), dtype, from).map(|operation| {
                        exchange.receive(from, operation.tag(), data);
                        last = Some(together(last, operation));
                    })
                }
                other => self.begin(other).map(|job| others.push(job)),
            };
            if let Err(error) = accepted {
                // As if this call had never been made.
                self.epoch = epoch;
                return Err(error);
            }
        }
        // The numbers of the others were given in the loop, before those of the packed ones.
        others.iter_mut().try_for_each(|job| self.complete(job))?;
        packed
            .into_iter()
            .try_for_each(|(reduction, members)| self.all_reduce_together(reduction, members))?;
        match last {
            Some(operation) => {
                let mut job = self.job(operation, AnyPlan::Exchange(exchange));
                self.complete(&mut job)
            }
            None => Ok(()),
        }
    }

    fn all_reduce_together(&mut self, (dtype, op): Reduction, mut members: Members<'_>) -> Result<(), Error> {
        let mut together = std::mem::take(&mut self.together);
        together.clear();
        for Packed { input, output } in &members {
            together.extend_from_slice(input.separate().unwrap_or(output));
        }
        let sizes = digest(members.iter().map(|member| member.output.len()));
        let job = self.all_reduce_job(Input::InPlace, &mut together, dtype, op, sizes);
        job.and_then(|mut job| self.complete(&mut job))?;
        let mut start = 0;
        for Packed { output, .. } in &mut members {
            output.copy_from_slice(&together[start..start + output.len()]);
            start += output.len();
        }
        self.together = together;
        Ok(())
    }
}

fn members_of<'g, 'a>(
    packed: &'g mut SmallVec<[(Reduction, Members<'a>); 2]>,
    reduction: Reduction,
) -> &'g mut Members<'a> {
    let known = packed.iter().position(|(other, _)| *other == reduction);
    let index = known.unwrap_or_else(|| {
        packed.push((reduction, Members::new()));
        packed.len() - 1
    });
    &mut packed[index].1
}

fn check_all_reduce(input: Input<'_>, output: &[u8], dtype: DType, op: ReduceOp) -> Result<(), Error> {
    const NAME: &str = "all_reduce";
    check::arithmetic(NAME, dtype, op)?;
    check::whole_elements(NAME, "output", output.len(), dtype)?;
    let given = input.separate().map_or(output.len(), <[u8]>::len);
    check::same_size(NAME, "input", given, output.len(), "as the output has")
}

/// What sends and receives are called together, in statistics and errors.
fn together(former: Option<Operation>, operation: Operation) -> Operation {
    let bytes = former.map_or(0, |former: Operation| former.bytes);
    Operation { bytes: operation.bytes + bytes, ..operation }
}
