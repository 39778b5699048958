//! New keys for a new epoch: who makes them, and when.

use std::collections::BTreeMap;

use nips::federation::{EnvelopeError, EpochKey, EpochSecrets, Opened, Role};
use nostr::{Keys, PublicKey, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};

use super::Keyring;
use crate::membership::{Log, Standing};

/// How long the admins after the first wait for another to make the keys, milliseconds each.
pub const TURN_MS: u64 = 2_000;

/// How long `me` waits before it makes keys for the present epoch, milliseconds; none when there are keys, or it may make none. The admin
/// who removed somebody does not wait at all. Two who make keys at once do no harm: both count, and all use the same of the two.
pub fn turn_ms(log: &Log, keyring: &Keyring, me: &PublicKey) -> Option<u64> {
    if keyring.is_current(&log.terms()) || !log.standing(me).may_admit() {
        return None;
    }
    let members = log.members();
    let admins = members.iter().filter(|member| member.standing == Standing::Admin);
    let before = admins.filter(|member| member.npub < *me).count();
    Some(u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(TURN_MS))
}

/// The first keys of a federation, or new ones for the present epoch: what to add to the keyring, and the event (kind 9772) for the passport
/// `author` to sign. They are sealed to the install key of each member where `installs` has it, else to its passport. `random` is the keys
/// themselves, `ephemeral` a key that is used nowhere else.
///
/// # Errors
/// When a member's key cannot be sealed to.
pub fn make<R: RngCore + CryptoRng>(
    log: &Log,
    installs: &BTreeMap<PublicKey, PublicKey>,
    author: PublicKey,
    at: u64,
    random: &[u8; 64],
    ephemeral: &Keys,
    rng: &mut R,
) -> Result<(Opened, UnsignedEvent), EnvelopeError> {
    let (terms, secrets) = (log.terms(), EpochSecrets::new(random));
    let to = |(npub, role): (PublicKey, Role)| (installs.get(&npub).copied().unwrap_or(npub), role);
    let recipients: Vec<(PublicKey, Role)> = log.recipients().into_iter().map(to).collect();
    let event = EpochKey::seal(&terms, &secrets, &recipients, author, at, ephemeral, rng)?;
    Ok((Opened { terms, secrets }, event))
}

/// The present keys sealed to one member more: for a joiner, or for a member whose install is new. None when there are no present keys here, or
/// not the siblings'.
///
/// # Errors
/// When it cannot be sealed to.
pub fn seal_to<R: RngCore + CryptoRng>(
    log: &Log,
    keyring: &Keyring,
    to: (PublicKey, Role),
    author: PublicKey,
    at: u64,
    ephemeral: &Keys,
    rng: &mut R,
) -> Result<Option<UnsignedEvent>, EnvelopeError> {
    let terms = log.terms();
    let Some(secrets) = keyring.secrets(&terms).filter(|secrets| secrets.sibling.is_some()) else { return Ok(None) };
    EpochKey::seal(&terms, secrets, &[to], author, at, ephemeral, rng).map(Some)
}
