//! Contents that tell where and in which message they belong.

/// Fills a buffer with the contents of message `number`.
pub fn fill(buffer: &mut [u8], number: u64) {
    for (at, chunk) in buffer.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(number, at as u64)[..chunk.len()]);
    }
}

/// Where a buffer differs from the contents of message `number`.
///
/// # Errors
/// The first place, in words.
pub fn check(buffer: &[u8], number: u64) -> Result<(), String> {
    for (at, chunk) in buffer.chunks(8).enumerate() {
        if chunk != &word(number, at as u64)[..chunk.len()] {
            return Err(format!("message {number} of {} bytes is wrong at byte {}", buffer.len(), at * 8));
        }
    }
    Ok(())
}

fn word(number: u64, at: u64) -> [u8; 8] {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xd6e8_feb8_6659_fd93))
        .rotate_left(29)
        .to_le_bytes()
}

/// Numbers that look like chance and are the same every time.
#[derive(Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) + 1)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A size from 0 to `most`, each order of magnitude as often as any other.
    pub fn size(&mut self, most: usize) -> usize {
        let bits = self.below(u64::from(most.max(1).ilog2()) + 2);
        (self.below(1 << bits) as usize).min(most)
    }
}
