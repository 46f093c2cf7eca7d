//! Regular expressions of URL patterns, matched in linear time and kept in little memory.
//!
//! URLs are ASCII, so no class needs more. Only the automaton is kept, a few hundred bytes for each group: the tables of
//! faster engines take hundreds of kilobytes, and one request may bring hundreds of expressions.

use std::cell::RefCell;

use regex_automata::{
    Anchored, Input,
    nfa::thompson::{
        self, WhichCaptures,
        backtrack::{self, BoundedBacktracker},
        pikevm::PikeVM,
    },
};
use regex_syntax::{
    ast::{self, Ast, Flags, GroupKind},
    hir::{
        Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition, translate::TranslatorBuilder,
    },
};

/// A regular expression, ready to match.
pub(super) struct Automaton(BoundedBacktracker);

/// The memory of one automaton's states: enough for a hundred groups.
const AUTOMATON_BYTES_MAX: usize = 32 * 1024;

/// Groups within groups of one expression. The parser recurses into each.
const NESTING_MAX: u32 = 32;

/// Escapes in an expression that names Unicode properties. Each property may take 10 µs to look up.
const UNICODE_ESCAPES_MAX: usize = 32;

/// An estimate of the memory that an automaton takes beside its states: tables of classes and captures.
const AUTOMATON_BYTES: usize = 1_024;

thread_local! {
    /// Where a search marks the steps that it has tried. All automata of a thread share it.
    static MARKS: RefCell<Option<backtrack::Cache>> = const { RefCell::new(None) };
}

impl Automaton {
    /// Compiles an expression. `None`: `source` is no regular expression, has something that URL patterns do not have
    /// (flags, such as `(?i)`, and Rust's spelling of named groups), or exceeds a bound.
    pub(super) fn compile(source: &str) -> Option<Self> {
        let ast = ast::parse::ParserBuilder::new().nest_limit(NESTING_MAX).build().parse(source).ok()?;
        ast::visit(&ast, Plain).ok()?;
        let translate = |unicode| {
            let mut translator = TranslatorBuilder::new().unicode(unicode).utf8(false).build();
            translator.translate(source, &ast)
        };
        let hir = match translate(false) {
            Ok(hir) => hir,
            Err(_) if source.matches('\\').count() > UNICODE_ESCAPES_MAX => return None,
            Err(_) => ascii(translate(true).ok()?),
        };
        let config = thompson::Config::new()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&hir).ok()?;
        BoundedBacktracker::builder().build_from_nfa(nfa).ok().map(Self)
    }

    /// An estimate of the memory that the automaton takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        AUTOMATON_BYTES + size_of::<Self>() + self.states_bytes()
    }

    /// The memory that the states take, in bytes: at most [`AUTOMATON_BYTES_MAX`].
    pub(super) fn states_bytes(&self) -> usize {
        self.0.get_nfa().memory_usage()
    }

    /// The number of states. A search looks at each byte at most once in each state.
    pub(super) fn states(&self) -> usize {
        self.0.get_nfa().states().len()
    }

    /// Whether the expression matches all of `value`.
    pub(super) fn accepts(&self, value: &str) -> bool {
        let input = || Input::new(value).anchored(Anchored::Yes);
        let found = MARKS.with_borrow_mut(|marks| {
            let marks = marks.get_or_insert_with(|| self.0.create_cache());
            self.0.reset_cache(marks);
            self.0.try_is_match(marks, input())
        });
        found.unwrap_or_else(|_| {
            // The value is too long for the marks. This engine is slower and takes memory of its own for each search.
            let Ok(vm) = PikeVM::builder().build_from_nfa(self.0.get_nfa().clone()) else { return false };
            vm.is_match(&mut vm.create_cache(), input())
        })
    }
}

/// The same expression with its classes cut to ASCII.
fn ascii(hir: Hir) -> Hir {
    let all = |parts: Vec<Hir>| parts.into_iter().map(ascii).collect();
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(mut class)) => {
            class.intersect(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7F')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(class) => Hir::class(class),
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            other => other,
        }),
        HirKind::Repetition(repetition) => {
            let inner = ascii(*repetition.sub);
            Hir::repetition(Repetition { sub: Box::new(inner), ..repetition })
        }
        HirKind::Capture(capture) => ascii(*capture.sub),
        HirKind::Concat(parts) => Hir::concat(all(parts)),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)),
    }
}

/// Refuses what URL patterns do not have.
struct Plain;

impl ast::Visitor for Plain {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        match ast {
            Ast::Flags(_) => Err(()),
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(Flags { items, .. }) if !items.is_empty() => Err(()),
                GroupKind::CaptureName { starts_with_p: true, .. } => Err(()),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_within_groups_are_bounded() {
        let nested = |depth: usize| format!("{}a{}", "(?:".repeat(depth), ")".repeat(depth));
        let depth_max = NESTING_MAX as usize;
        assert!(Automaton::compile(&nested(depth_max)).is_some());
        assert!(Automaton::compile(&nested(depth_max + 1)).is_none());
    }

    #[test]
    fn escapes_beside_unicode_properties_are_bounded() {
        let escapes = |count: usize| format!("\\p{{L}}{}", "\\d".repeat(count - 1));
        assert!(Automaton::compile(&escapes(UNICODE_ESCAPES_MAX)).is_some());
        assert!(Automaton::compile(&escapes(UNICODE_ESCAPES_MAX + 1)).is_none());
        assert!(Automaton::compile(&"\\d".repeat(UNICODE_ESCAPES_MAX + 1)).is_some(), "without a property");
    }

    #[test]
    fn states_are_bounded_in_bytes() {
        assert!(
            Automaton::compile("a{500}").is_some_and(|small| small.states_bytes() <= AUTOMATON_BYTES_MAX)
        );
        assert!(Automaton::compile("a{3000}").is_none());
    }

    #[test]
    fn classes_and_word_boundaries_are_those_of_ascii() {
        let accepts = |source: &str, value: &str| Automaton::compile(source).expect(source).accepts(value);
        // The property makes the whole expression one of Unicode.
        assert!(accepts("\\p{L}\\w\\d", "az1") && !accepts("\\p{L}", "1"));
        assert!(accepts("\\p{L}+\\b-", "ab-") && !accepts("\\p{L}\\b\\p{L}", "ab"));
        assert!(accepts("\\p{L}\\B\\p{L}", "ab") && !accepts("\\p{L}\\B-", "a-"));
    }

    #[test]
    fn a_whole_value_must_match() {
        let accepts = |value: &str| Automaton::compile("^(?:a|bc)$").expect("an expression").accepts(value);
        assert!(accepts("a") && accepts("bc") && !accepts("xa") && !accepts("abc") && !accepts(""));
    }
}
