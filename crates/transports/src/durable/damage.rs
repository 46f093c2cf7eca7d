//! The unreadable parts of the file. Each is found once, logged once, and skipped from then on.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use petasos_protocol::update::Origin;
use rusqlite::{Connection, Row};

use super::{failure::is_damage, link::table};

/// The damage that has been found so far.
#[derive(Default)]
pub(super) struct Damage {
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    stretches: Vec<Stretch>,
    /// Unreadable parts that are no stretch of positions.
    things: Vec<&'static str>,
    is_silent: bool,
}

struct Stretch {
    /// `None`: the missing entries may have been in either table.
    origin: Option<Origin>,
    sequences: RangeInclusive<u64>,
}

/// Stretches that are remembered. A file with more is lost anyway: each read then finds the further ones again.
const STRETCHES_MAX: usize = 1_024;

/// Positions that are tried before the stride doubles. A page of a table holds some tens of entries, and a lost page above it
/// leads to some hundred of those pages.
const TRIES_OF_A_STRIDE: u64 = 64;
const STRIDE_MAX: u64 = 1_024;

/// Whether a walk goes on.
pub(super) enum Walk {
    On,
    Stop,
}

impl Damage {
    /// Calls `visit` for every readable row of a table after `after` and up to `through`, in order, until it returns
    /// [`Walk::Stop`]. `sql` selects from that table where `seq > ?1 AND seq <= ?2`, in order, with `seq` as the first column.
    /// Returns false if `visit` has stopped the walk.
    ///
    /// # Errors
    /// Every error but damage of the file.
    pub(super) fn walk(
        &self,
        connection: &Connection,
        origin: Origin,
        sql: &str,
        (after, through): (u64, u64),
        mut visit: impl FnMut(u64, &Row<'_>) -> rusqlite::Result<Walk>,
    ) -> rusqlite::Result<bool> {
        let mut seen = after;
        while seen < through {
            // Known damage is not read again: SQLite refuses all writes in a transaction that has met damage.
            let (known, end) = self.next_known(origin, seen, through);
            if known <= seen.saturating_add(1) {
                seen = end.min(through);
                continue;
            }
            let until = through.min(known - 1);
            let mut walk = || {
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query([seen as i64, until as i64])?;
                while let Some(row) = rows.next()? {
                    let sequence = row.get::<_, i64>(0)? as u64;
                    // A damaged page may hold any number here. The statement ends all the same.
                    if sequence > seen && sequence <= until {
                        let walk = visit(sequence, row)?;
                        seen = sequence;
                        if let Walk::Stop = walk {
                            return Ok(false);
                        }
                        // Another step would read the row after the span, which may be damaged.
                        if sequence == until {
                            break;
                        }
                    }
                }
                Ok(true)
            };
            match walk() {
                Ok(false) => return Ok(false),
                Ok(true) => seen = until,
                Err(error) if is_damage(&error) => {
                    seen = self.step_over(connection, origin, seen, until, &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Finds and reports the stretch after `seen` that cannot be read. Returns its last position.
    fn step_over(
        &self,
        connection: &Connection,
        origin: Origin,
        seen: u64,
        through: u64,
        error: &rusqlite::Error,
    ) -> u64 {
        let sql = format!("SELECT seq FROM {} WHERE seq > ?1 ORDER BY seq LIMIT 1", table(origin));
        let next = |after: u64| -> rusqlite::Result<Option<u64>> {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([after as i64])?;
            Ok(rows.next()?.map(|row| row.get::<_, i64>(0)).transpose()?.map(|next| next as u64))
        };
        let is_readable = |after| match next(after) {
            Ok(next) => next.is_none_or(|next| next > after),
            Err(_) => false,
        };
        let end = match next(seen) {
            // The key can be read, and the record cannot.
            Ok(Some(sequence)) if sequence > seen => sequence.min(through),
            Ok(None) => through,
            _ => first_readable(seen, through, is_readable),
        };
        self.report(Some(origin), seen + 1..=end, &error.to_string());
        end
    }

    /// The first and the last position of the first known stretch after `seen`. If none begins up to `through`: the position
    /// after `through`, and the last of all.
    fn next_known(&self, origin: Origin, seen: u64, through: u64) -> (u64, u64) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let stretches = found.stretches.iter().filter(|stretch| {
            stretch.origin == Some(origin)
                && *stretch.sequences.end() > seen
                && *stretch.sequences.start() <= through
        });
        let next = stretches.map(|stretch| (*stretch.sequences.start(), *stretch.sequences.end())).min();
        next.unwrap_or((through.saturating_add(1), u64::MAX))
    }

    /// The number of stretches that have been found.
    pub(super) fn count(&self) -> usize {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).stretches.len()
    }

    fn known_after(&self, origin: Origin, seen: u64) -> Option<u64> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |stretch: &&Stretch| {
            stretch.origin == Some(origin) && stretch.sequences.contains(&seen.saturating_add(1))
        };
        found.stretches.iter().find(known).map(|stretch| *stretch.sequences.end())
    }

    /// Logs entries that are not what was stored, unless they were logged before.
    pub(super) fn report(&self, origin: Option<Origin>, sequences: RangeInclusive<u64>, reason: &str) {
        let (first, last) = (*sequences.start(), *sequences.end());
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |stretch: &Stretch| {
            (origin.is_none() || stretch.origin == origin)
                && stretch.sequences.contains(&first)
                && stretch.sequences.contains(&last)
        };
        if found.stretches.iter().any(is_known) || found.is_silent {
            return;
        }
        if found.stretches.len() == STRETCHES_MAX {
            found.is_silent = true;
            tracing::error!(
                "too many parts of the log are damaged to log them all: restore a copy of the log"
            );
            return;
        }
        found.stretches.push(Stretch { origin, sequences });
        drop(found);
        let what = origin.map_or("entries", table);
        tracing::error!(what, first, last, reason, "a part of the log is damaged and left out");
    }

    /// Reports the positions between `after` and `through` that neither table has. None of them was trimmed: their entries are
    /// lost, though SQLite reports no error.
    pub(super) fn report_missing(&self, (after, through): (u64, u64), present: impl Iterator<Item = u64>) {
        let mut expected = after.saturating_add(1);
        for sequence in present.chain([through.saturating_add(1)]) {
            let mut missing = expected;
            while missing < sequence {
                // Unreadable entries have been reported already.
                let end = [Origin::Publisher, Origin::Hub]
                    .into_iter()
                    .filter_map(|origin| self.known_after(origin, missing - 1))
                    .max();
                match end {
                    Some(end) => missing = end.saturating_add(1),
                    None => {
                        self.report(None, missing..=sequence - 1, "its place in the tables is empty");
                        break;
                    }
                }
            }
            expected = expected.max(sequence.saturating_add(1));
        }
    }

    /// Logs once that a part which is no stretch of positions cannot be read.
    pub(super) fn report_thing(&self, thing: &'static str, reason: &str) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.things.contains(&thing) {
            found.things.push(thing);
            drop(found);
            tracing::error!(what = thing, reason, "a part of the log is damaged and left out");
        }
    }
}

/// The first position after which reading works. The number of tries grows slowly with the distance.
fn first_readable(seen: u64, through: u64, is_readable_after: impl Fn(u64) -> bool) -> u64 {
    let (mut unreadable, mut tries, mut stride) = (seen, 0, 1);
    while unreadable < through {
        let place = unreadable.saturating_add(stride).min(through);
        if is_readable_after(place) {
            let (mut low, mut high) = (unreadable, place);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match is_readable_after(middle) {
                    true => high = middle,
                    false => low = middle,
                }
            }
            return high;
        }
        unreadable = place;
        tries += 1;
        if tries % TRIES_OF_A_STRIDE == 0 {
            stride = (stride * 2).min(STRIDE_MAX);
        }
    }
    through
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stretch_is_found_wherever_it_is() {
        for end in (1..300).chain([5_000, 100_000, 999_999]) {
            assert_eq!(first_readable(0, 1_000_000, |after| after >= end), end);
        }
        assert_eq!(first_readable(5, 1_000, |_| false), 1_000);
    }

    #[test]
    fn what_is_missing_is_reported_once() {
        let damage = Damage::default();
        damage.report(Some(Origin::Hub), 4..=6, "test");
        damage.report_missing((0, 12), [1, 2, 3, 8, 9].into_iter());
        let found = |damage: &Damage| {
            let found = damage.found.lock().expect("no panic");
            found.stretches.iter().map(|stretch| stretch.sequences.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(&damage), [4..=6, 7..=7, 10..=12]);
        damage.report_missing((0, 12), [1, 2, 3, 8, 9].into_iter());
        assert_eq!(found(&damage).len(), 3);
    }
}
