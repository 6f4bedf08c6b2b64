//! The all-reduce of three and more ranks above the one-shot size: each rank reduces its share, then all share theirs.

use halo_fabric::{Fabric, Tag};

use super::{Parts, PerRank, Plan, PlanError, Progress, Reduce, Transfer};
use crate::reduce::Arithmetic;

#[derive(Debug)]
pub(crate) struct ReduceAndShare<'a> {
    tag: Tag,
    parts: Parts,
    phase: Phase<'a>,
}

#[derive(Debug)]
enum Phase<'a> {
    Reduce(Reduce<'a>),
    Share(Transfer<'a>),
    /// Between the two, and never seen from outside.
    Turning,
}

impl<'a> ReduceAndShare<'a> {
    pub(crate) fn new<F: Fabric>(
        fabric: &F,
        tag: Tag,
        arithmetic: Arithmetic,
        input: Option<&'a [u8]>,
        output: &'a mut [u8],
    ) -> Self {
        let parts = Parts::shares(output.len(), fabric.world());
        let result = parts.of(fabric.rank()).map_or(0, |own| own.start);
        let reduce = Reduce::new(fabric, tag, arithmetic, input, output, parts, result);
        Self { tag, parts, phase: Phase::Reduce(reduce) }
    }

    fn share<F: Fabric>(&self, fabric: &F, output: &'a mut [u8]) -> Transfer<'a> {
        let own = self.parts.of(fabric.rank()).unwrap_or_default();
        Transfer::new(fabric, self.tag, None, output, Parts::same(&own), self.parts)
    }
}

impl Plan for ReduceAndShare<'_> {
    fn step<F: Fabric>(&mut self, fabric: &mut F) -> Result<Progress, PlanError> {
        match &mut self.phase {
            Phase::Reduce(reduce) => {
                let progress = reduce.step(fabric)?;
                if progress != Progress::Done {
                    return Ok(progress);
                }
                if let Phase::Reduce(reduce) = std::mem::replace(&mut self.phase, Phase::Turning) {
                    self.phase = Phase::Share(self.share(fabric, reduce.into_output()));
                }
                Ok(Progress::Moved)
            }
            Phase::Share(share) => share.step(fabric),
            Phase::Turning => Ok(Progress::Done),
        }
    }

    fn waiting_for<F: Fabric>(&self, fabric: &F) -> PerRank<usize> {
        match &self.phase {
            Phase::Reduce(reduce) => reduce.waiting_for(fabric),
            Phase::Share(share) => share.waiting_for(fabric),
            Phase::Turning => PerRank::new(),
        }
    }
}
