//! Smaller communicators out of a larger one.

use halo_fabric::{Key, Mesh, Rendezvous};
use serde::{Deserialize, Serialize};

use super::Communicator;
use crate::dtype::DType;
use crate::error::Error;

/// Room for one rank's [`Invitation`] as JSON.
const RECORD_BYTES: usize = 1024;
/// The color of a rank that gets no communicator.
const NO_COLOR: i64 = -1;

/// What the first rank of a color tells the others.
#[derive(Debug, Serialize, Deserialize)]
enum Invitation {
    /// This rank is not the first of its color, or alone in it.
    None,
    /// Where to meet, and the key to prove there.
    Meet { address: String, key: Vec<u8> },
    /// There is no place to meet.
    Failed { cause: String },
}

impl Communicator {
    /// Divides the ranks: those that give the same color form a communicator of their own, ordered by `key` and, where
    /// keys are equal, by rank. A rank without a color takes part and gets none. Every rank calls it.
    ///
    /// # Errors
    /// As [`Communicator::all_gather`]; and whatever keeps the ranks of this color from meeting, which harms neither
    /// this communicator nor those of other colors.
    pub fn split(&mut self, color: Option<u32>, key: i64) -> Result<Option<Self>, Error> {
        let members = self.members(color, key)?;
        let leads = color.is_some() && members.len() > 1 && members[0] == self.rank();
        let (invitation, opened) = if leads { self.invite() } else { (Invitation::None, None) };
        let invitations = self.exchange(&invitation)?;
        // Counted by ranks without a color, too: the number is part of a name that all must agree on.
        self.splits += 1;
        let Some(color) = color else { return Ok(None) };

        let rank = members.iter().position(|member| *member == self.rank()).unwrap_or_default();
        let mut config = self.config.clone();
        config.name = format!("{}/{}:{color}", config.name, self.splits);
        (config.rank, config.world) = (rank, members.len());
        let secret = match &invitations[members[0]] {
            Invitation::Meet { address, key } => {
                config.rendezvous.clone_from(address);
                Key::new(key.clone())
            }
            Invitation::Failed { cause } => {
                return Err(Error::Split { leader: members[0], color, cause: cause.clone() });
            }
            Invitation::None => Key::new(Vec::new()),
        };
        config.key = Some(secret.clone());
        Self::over(Mesh::connect_at(&config, &secret, opened)?, config, self.plans.clone()).map(Some)
    }

    /// The ranks of this color, in their new order.
    fn members(&mut self, color: Option<u32>, key: i64) -> Result<Vec<usize>, Error> {
        let own = [color.map_or(NO_COLOR, i64::from), key];
        let mut all = vec![0i64; 2 * self.world()];
        self.all_gather(bytemuck::bytes_of(&own), bytemuck::cast_slice_mut(&mut all), DType::U8)?;
        let mut members: Vec<usize> = (0..self.world()).filter(|rank| all[2 * rank] == own[0]).collect();
        members.sort_by_key(|rank| all[2 * rank + 1]);
        Ok(members)
    }

    fn invite(&self) -> (Invitation, Option<Rendezvous>) {
        let address = std::net::SocketAddr::new(self.mesh.address(), 0).to_string();
        let opened = Key::generate().and_then(|key| {
            let rendezvous = Rendezvous::start(&address, &key, self.config.timeout)?;
            Ok((rendezvous, key))
        });
        match opened {
            Ok((rendezvous, key)) => {
                let address = rendezvous.address().to_string();
                (Invitation::Meet { address, key: key.expose().to_vec() }, Some(rendezvous))
            }
            Err(error) => {
                // Cut, so that it fits the record.
                let cause = error.to_string().chars().take(200).collect();
                (Invitation::Failed { cause }, None)
            }
        }
    }

    /// Everybody's invitation, by rank.
    fn exchange(&mut self, own: &Invitation) -> Result<Vec<Invitation>, Error> {
        let mut record = serde_json::to_vec(own).expect("an invitation is plain data");
        record.resize(RECORD_BYTES, b' ');
        let mut all = vec![0; RECORD_BYTES * self.world()];
        self.all_gather(&record[..], &mut all, DType::U8)?;
        let read = |record: &[u8]| {
            serde_json::from_slice(record).unwrap_or_else(|error| Invitation::Failed {
                cause: format!("its record is broken: {error}"),
            })
        };
        Ok(all.chunks_exact(RECORD_BYTES).map(read).collect())
    }
}
