//! The members of one shard: their slots, what they want, and which of them have unsent frames.
//!
//! The list of members that are behind is kept here alone, and so is the sum of their unsent bytes: a member's sink can be
//! changed only through [`Members::visit`], which looks at the sink afterwards. So both are exact whatever a sink does.

use std::sync::Arc;

use slab::Slab;

use super::{
    index::Index,
    key::MemberKey,
    marks::{Marked, Marks},
    registration::RegistrationKey,
    ring::EntryNumber,
    sink::Sink,
};
use crate::{
    interest::Interest,
    log::transport::{Entry, Position},
};

/// The members of one shard. Only its thread touches them.
pub(crate) struct Members<S> {
    /// Members without a grant. Private updates, so all subscription events, are not looked up among them.
    public: Index,
    granted: Index,
    slots: Slab<Member<S>>,
    /// Members ever admitted. It wraps around, long after the member with the same number has left.
    admitted: u32,
    /// The slots of all members whose sink is behind, in no order.
    behind: Vec<u32>,
    /// The unsent bytes of all members.
    unsent_bytes: usize,
}

struct Member<S> {
    number: u32,
    /// The index in the list of members that are behind, or [`NOT_BEHIND`].
    behind_at: u32,
    /// Entries up to here it has already, or did not ask for.
    has: Position,
    registrations: Registrations,
    marked: Marked,
    sink: S,
}

const NOT_BEHIND: u32 = u32::MAX;

/// The registrations of a member in its index, in the order of its matchers. Most members have one.
enum Registrations {
    One(RegistrationKey),
    Several(Box<[RegistrationKey]>),
}

impl Registrations {
    fn as_slice(&self) -> &[RegistrationKey] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Several(several) => several,
        }
    }
}

/// No member.
impl<S> Default for Members<S> {
    fn default() -> Self {
        Self {
            public: Index::default(),
            granted: Index::default(),
            slots: Slab::new(),
            admitted: 0,
            behind: Vec::new(),
            unsent_bytes: 0,
        }
    }
}

impl<S: Sink> Members<S> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many members have ever been admitted; it wraps around.
    pub(crate) fn admitted(&self) -> u32 {
        self.admitted
    }

    /// The slots of all members that have unsent frames, in no order.
    pub(crate) fn behind(&self) -> &[u32] {
        &self.behind
    }

    /// The unsent bytes of all members.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// The key that the next member gets.
    pub(crate) fn next_key(&self) -> MemberKey {
        MemberKey { slot: self.slots.vacant_key() as u32, number: self.admitted.wrapping_add(1) }
    }

    /// Adds a member, which gets the key of [`Members::next_key`]. It wants entries after `has`.
    pub(crate) fn insert(&mut self, sink: S, has: Position) {
        if self.slots.len() == self.slots.capacity() {
            // Not twice as many: half of the table would be empty on average.
            self.slots.reserve_exact(self.slots.len() / 8 + 64);
        }
        let MemberKey { slot, number } = self.next_key();
        self.admitted = number;
        let interest = Arc::clone(sink.interest());
        let index = self.index(&interest);
        let registrations = match &*interest.matchers {
            [only] => Registrations::One(index.insert(only, slot)),
            several => Registrations::Several(several.iter().map(|each| index.insert(each, slot)).collect()),
        };
        let marked = Marked::default();
        self.unsent_bytes += sink.unsent_bytes();
        self.slots.insert(Member { number, behind_at: NOT_BEHIND, has, registrations, marked, sink });
        self.visit(slot, |_| ());
    }

    /// Takes a member out, unless it has left already.
    pub(crate) fn remove(&mut self, key: MemberKey) -> Option<S> {
        let slot = key.slot as usize;
        if self.slots.get(slot).is_none_or(|member| member.number != key.number) {
            return None;
        }
        let Member { registrations, behind_at, sink, .. } = self.slots.remove(slot);
        self.unlist(behind_at);
        self.unsent_bytes -= sink.unsent_bytes();
        let interest = sink.interest();
        let index = self.index(interest);
        for (matcher, registration) in interest.matchers.iter().zip(registrations.as_slice()) {
            index.remove(matcher, *registration);
        }
        if self.slots.is_empty() {
            // The tables of many members are given back when the last has left.
            *self = Self { admitted: self.admitted, ..Self::default() };
        }
        Some(sink)
    }

    /// All members, with their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemberKey, &S)> {
        self.slots
            .iter()
            .map(|(slot, member)| (MemberKey { slot: slot as u32, number: member.number }, &member.sink))
    }

    /// Whether a member is here and has unsent frames.
    pub(crate) fn is_behind(&self, key: MemberKey) -> bool {
        let member = self.slots.get(key.slot as usize).filter(|member| member.number == key.number);
        member.is_some_and(|member| member.behind_at != NOT_BEHIND)
    }

    /// Takes all members out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = S> + use<S> {
        let all = std::mem::replace(self, Self { admitted: self.admitted, ..Self::default() });
        all.slots.into_iter().map(|(_, member)| member.sink)
    }

    /// Calls `change` with a member's sink: the only way to change one. `None`: the slot is empty.
    pub(crate) fn visit<R>(&mut self, slot: u32, change: impl FnOnce(&mut S) -> R) -> Option<(MemberKey, R)> {
        let member = self.slots.get_mut(slot as usize)?;
        let key = MemberKey { slot, number: member.number };
        let unsent_bytes = member.sink.unsent_bytes();
        let result = change(&mut member.sink);
        self.unsent_bytes = self.unsent_bytes - unsent_bytes + member.sink.unsent_bytes();
        match (member.sink.is_behind(), member.behind_at) {
            (true, NOT_BEHIND) => {
                member.behind_at = self.behind.len() as u32;
                self.behind.push(slot);
            }
            (false, at) if at != NOT_BEHIND => {
                member.behind_at = NOT_BEHIND;
                self.unlist(at);
            }
            _ => {}
        }
        Some((key, result))
    }

    /// A member's sink.
    pub(crate) fn sink(&self, slot: u32) -> Option<&S> {
        Some(&self.slots.get(slot as usize)?.sink)
    }

    /// The position up to which a member has everything that it wants, or did not ask for it.
    pub(crate) fn has(&self, slot: u32) -> Option<Position> {
        Some(self.slots.get(slot as usize)?.has)
    }

    /// Marks an entry for every member that has not got it, wants it and may have it.
    pub(crate) fn mark(&mut self, entry: &Entry, number: EntryNumber, marks: &mut Marks) {
        let slots = &mut self.slots;
        let mut mark = |slot: u32| {
            let member = &mut slots[slot as usize];
            if member.has < entry.position && member.sink.interest().may_have(&entry.update) {
                member.has = entry.position;
                marks.push(slot, &mut member.marked, number);
            }
        };
        // The topics of a subscription event are written when they are asked for, so not while no member has a grant.
        if !self.granted.is_empty() {
            self.granted.lookup(entry.update.topics(), &mut mark);
        }
        if !entry.update.is_private() {
            self.public.lookup(entry.update.topics(), &mut mark);
        }
    }

    /// Takes the list of a member's marks.
    pub(crate) fn take_marked(&mut self, slot: u32) -> Marked {
        self.slots.get_mut(slot as usize).map(|member| std::mem::take(&mut member.marked)).unwrap_or_default()
    }

    fn index(&mut self, interest: &Interest) -> &mut Index {
        if interest.sees_private() { &mut self.granted } else { &mut self.public }
    }

    /// Takes an index out of the list of members that are behind.
    fn unlist(&mut self, behind_at: u32) {
        if behind_at == NOT_BEHIND {
            return;
        }
        self.behind.swap_remove(behind_at as usize);
        if let Some(moved) = self.behind.get(behind_at as usize) {
            self.slots[*moved as usize].behind_at = behind_at;
        }
    }
}
