//! Regular expressions with bounds, and plain texts to look for.

use std::fmt;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind, Look};

/// Most bytes that a compiled expression may take; matching is linear in the text anyway.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A text to be found inside others: a regular expression, or plain.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
    is_plain: bool,
}

/// A regular expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression is wrong: {message}")]
pub struct InvalidPattern {
    /// What is wrong with it.
    pub message: String,
    /// Characters of the expression before the mistake, where that is known.
    pub offset: Option<usize>,
}

/// A pattern that is as much as a comparison of texts, which databases do well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// The whole text.
    Equal(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any part of it.
    Part(String),
}

impl Pattern {
    /// A regular expression, as the crate `regex` defines them, found anywhere in a text
    /// unless `^` and `$` say otherwise.
    ///
    /// # Errors
    /// When it is wrong or too large.
    pub fn regex(source: &str) -> Result<Self, InvalidPattern> {
        let built = RegexBuilder::new(source)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .build();
        match built {
            Ok(regex) => Ok(Self {
                source: source.to_owned(),
                regex,
                is_plain: false,
            }),
            Err(regex::Error::CompiledTooBig(_)) => Err(InvalidPattern {
                message: "it is too large".to_owned(),
                offset: None,
            }),
            Err(_) => Err(explain(source)),
        }
    }

    /// `text` itself, found anywhere.
    pub fn plain(text: &str) -> Self {
        let escaped = regex::escape(text);
        let built = RegexBuilder::new(&escaped)
            .size_limit(MAX_COMPILED_BYTES.saturating_add(escaped.len().saturating_mul(64)))
            .build();
        Self {
            source: text.to_owned(),
            regex: built.expect("an escaped text is an expression, and there is room for it"),
            is_plain: true,
        }
    }

    /// `text` itself in whichever case, found anywhere. A text that is too long for that is
    /// looked for as it is written.
    pub fn containing(text: &str) -> Self {
        let folded = format!("(?i){}", regex::escape(text));
        Self::regex(&folded).unwrap_or_else(|_| Self::plain(text))
    }

    /// A regular expression, or where it is none a plain text: for fields in which people
    /// type either.
    pub fn lenient(source: &str) -> Self {
        Self::regex(source).unwrap_or_else(|_| Self::plain(source))
    }

    /// The regular expression that means the same.
    pub fn expression(&self) -> String {
        if self.is_plain {
            regex::escape(&self.source)
        } else {
            self.source.clone()
        }
    }

    /// Whether it is found in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The comparison that it is as much as; `None` when only the expression itself will do.
    pub fn literal(&self) -> Option<Literal> {
        if self.is_plain {
            return Some(Literal::Part(self.source.clone()));
        }
        let hir = regex_syntax::parse(&self.source).ok()?;
        let (mut begins, mut ends, mut text) = (false, false, Vec::new());
        let parts: &[Hir] = match hir.kind() {
            HirKind::Concat(parts) => parts,
            _ => std::slice::from_ref(&hir),
        };
        for (index, part) in parts.iter().enumerate() {
            match part.kind() {
                HirKind::Look(Look::Start) if index == 0 => begins = true,
                HirKind::Look(Look::End) if index + 1 == parts.len() => ends = true,
                HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
                HirKind::Empty => {}
                _ => return None,
            }
        }
        let text = String::from_utf8(text).ok()?;
        Some(match (begins, ends) {
            (true, true) => Literal::Equal(text),
            (true, false) => Literal::Prefix(text),
            (false, true) => Literal::Suffix(text),
            (false, false) => Literal::Part(text),
        })
    }

    /// A text that everything it matches has in it; empty when none is known.
    pub fn required(&self) -> String {
        if self.is_plain {
            return self.source.clone();
        }
        let Ok(hir) = regex_syntax::parse(&self.source) else {
            return String::new();
        };
        let parts: &[Hir] = match hir.kind() {
            HirKind::Concat(parts) => parts,
            _ => std::slice::from_ref(&hir),
        };
        let literals = parts.iter().filter_map(|part| match part.kind() {
            HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
            _ => None,
        });
        literals
            .max_by_key(|text| text.len())
            .unwrap_or_default()
            .to_owned()
    }
}

/// What is wrong with an expression that does not compile.
fn explain(source: &str) -> InvalidPattern {
    let characters = |bytes: usize| source.get(..bytes).map(|before| before.chars().count());
    match regex_syntax::parse(source) {
        Err(regex_syntax::Error::Parse(error)) => InvalidPattern {
            message: error.kind().to_string(),
            offset: characters(error.span().start.offset),
        },
        Err(regex_syntax::Error::Translate(error)) => InvalidPattern {
            message: error.kind().to_string(),
            offset: characters(error.span().start.offset),
        },
        _ => InvalidPattern {
            message: "it is too large".to_owned(),
            offset: None,
        },
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.expression() == other.expression()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pattern({:?})", self.expression())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn simple_patterns_are_comparisons() {
        let literal = |source: &str| Pattern::regex(source).unwrap().literal();
        assert_eq!(literal("needle"), Some(Literal::Part("needle".into())));
        assert_eq!(literal(r"^a\.b$"), Some(Literal::Equal("a.b".into())));
        assert_eq!(literal("^a"), Some(Literal::Prefix("a".into())));
        assert_eq!(literal("a$"), Some(Literal::Suffix("a".into())));
        assert_eq!(literal(""), Some(Literal::Part(String::new())));
        assert_eq!(literal("ne+dle"), None);
        assert_eq!(literal("(?i)a"), None);
        assert_eq!(literal("a|b"), None);
        assert_eq!(
            Pattern::plain("a.b").literal(),
            Some(Literal::Part("a.b".into()))
        );
    }

    #[test]
    fn what_does_not_compile_is_looked_for_as_it_is() {
        let pattern = Pattern::lenient("a[b");
        assert!(pattern.is_match("xa[bx"));
        assert!(!pattern.is_match("ab"));
        assert!(Pattern::lenient("ne+dle").is_match("a neeedle"));
        assert!(Pattern::lenient(&"(a{1000}){1000}".repeat(2)).is_plain);
    }

    #[test]
    fn a_wrong_expression_says_where() {
        let error = Pattern::regex("ab(c").unwrap_err();
        assert_eq!(error.offset, Some(2));
        assert_eq!(error.message, "unclosed group");
        let error = Pattern::regex("(a{1000}){1000}").unwrap_err();
        assert_eq!(error.message, "it is too large");
    }

    proptest! {
        #[test]
        fn a_comparison_says_what_the_expression_says(
            source in r"\^?[ab.\\]{0,3}[+$|]?",
            text in "[ab.\n]{0,5}",
        ) {
            if let Ok(pattern) = Pattern::regex(&source) {
                let compared = pattern.literal().map(|literal| match literal {
                    Literal::Equal(wanted) => text == wanted,
                    Literal::Prefix(wanted) => text.starts_with(&wanted),
                    Literal::Suffix(wanted) => text.ends_with(&wanted),
                    Literal::Part(wanted) => text.contains(&wanted),
                });
                prop_assert_eq!(compared.unwrap_or(pattern.is_match(&text)), pattern.is_match(&text));
                if pattern.is_match(&text) {
                    prop_assert!(text.contains(&pattern.required()));
                }
            }
        }

        #[test]
        fn a_plain_text_is_found_as_it_is(text in ".{0,10}", before in ".{0,3}", after in ".{0,3}") {
            let haystack = format!("{before}{text}{after}");
            prop_assert!(Pattern::plain(&text).is_match(&haystack));
        }
    }
}
