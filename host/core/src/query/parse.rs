//! The language of queries: one line of text to a [`Query`]. `docs/queries.md` has its grammar.
//!
//! Every mistake stops the parser where it is made: after the first word of a test there is
//! one way to go on, so nothing is tried twice and the first error is the right one.

use std::fmt::Write as _;

use winnow::combinator::{alt, peek, repeat, separated};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location as _, Stateful};
use winnow::token::{any, one_of, take_while};
use winnow::{ModalParser, Parser as _};

use super::ast::{
    Comparison, Condition, Direction, Filter, Order, Query, Test, Value, number, operators,
};
use super::field::{Entity, Field, Kind, Letter};
use super::pattern::Pattern;
use super::{MAX_DEPTH, MAX_ORDERS, MAX_TESTS, MAX_TEXT_BYTES, MAX_VALUES};
use crate::text::shortened;
use crate::time::Timestamp;

/// What is wrong with the text of a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {position}: {message}")]
pub struct SyntaxError {
    /// What was expected and what was found.
    pub message: String,
    /// The character at which it is wrong; counts from 1. One more than there are characters
    /// when something is missing at the end.
    pub position: usize,
    /// Its line; counts from 1.
    pub line: usize,
    /// Its place in the line; counts from 1.
    pub column: usize,
}

impl SyntaxError {
    /// The line of `text` at fault, and below it a mark under the character.
    pub fn caret(&self, text: &str) -> String {
        let line = text.lines().nth(self.line - 1).unwrap_or_default();
        // Tabs stay tabs, so that the mark stands below its character wherever they lead.
        let before = line.chars().take(self.column - 1);
        let margin: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{line}\n{margin}^")
    }
}

/// Reads the text of a query about `entity`. An empty text asks for everything.
///
/// # Errors
/// Where and why it is none.
pub fn parse(entity: Entity, text: &str, now: Timestamp) -> Result<Query, SyntaxError> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("a query has at most {MAX_TEXT_BYTES} bytes");
        let end = text.floor_char_boundary(MAX_TEXT_BYTES);
        return Err(locate(text, end, message));
    }
    run(query, entity, text, now).map_err(|mistake| locate(text, mistake.at, mistake.message))
}

/// Reads a field by its name alone; the error is what would be right.
pub(crate) fn field(entity: Entity, text: &str) -> Result<Field, String> {
    let whole = |input: &mut Input<'_>| {
        let word = word.parse_next(input)?;
        end("the end", input)?;
        Ok(word)
    };
    let word = run(whole, entity, text, Timestamp(0));
    let word = word.map_err(|_| "the name of one field".to_owned())?;
    Field::named(entity, &word.parts)
}

/// `text` in quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            control if control.is_control() => {
                let code = u32::from(control);
                write!(quoted, "\\u{{{code:x}}}").expect("writing to a text cannot fail");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text can be written as a value without quotation marks, and stays a text.
pub(crate) fn is_plain_value(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !KEYWORDS
            .iter()
            .any(|keyword| keyword.eq_ignore_ascii_case(text))
        && number(text).is_none()
}

/// Words that cannot be values without quotation marks.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "null", "order", "by"];

type Input<'a> = Stateful<LocatingSlice<&'a str>, State>;
type Outcome<T> = Result<T, ErrMode<Mistake>>;

/// What the rules share while they read one text.
#[derive(Debug, Clone)]
struct State {
    entity: Entity,
    now: Timestamp,
    depth: usize,
    tests: usize,
    values: usize,
}

/// A place in bytes, and what is wrong there.
#[derive(Debug, Clone)]
struct Mistake {
    at: usize,
    message: String,
}

impl<'a> ParserError<Input<'a>> for Mistake {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self {
            at: input.current_token_start(),
            message: format!("unexpected {}", found(input)),
        }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// A name or a value.
struct Word {
    start: usize,
    parts: Vec<Letter>,
    is_bare: bool,
}

impl Word {
    fn text(&self) -> String {
        self.parts.iter().map(|(character, _)| character).collect()
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        self.is_bare && self.text().eq_ignore_ascii_case(keyword)
    }
}

fn run<'a, T>(
    mut rule: impl ModalParser<Input<'a>, T, Mistake>,
    entity: Entity,
    text: &'a str,
    now: Timestamp,
) -> Result<T, Mistake> {
    let mut input = Stateful {
        input: LocatingSlice::new(text),
        state: State {
            entity,
            now,
            depth: 0,
            tests: 0,
            values: 0,
        },
    };
    let done = space
        .parse_next(&mut input)
        .and_then(|()| rule.parse_next(&mut input));
    done.map_err(|error| match error {
        ErrMode::Cut(mistake) | ErrMode::Backtrack(mistake) => mistake,
        ErrMode::Incomplete(_) => Mistake {
            at: text.len(),
            message: "the query is not complete".to_owned(),
        },
    })
}

fn locate(text: &str, at: usize, message: String) -> SyntaxError {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    SyntaxError {
        message,
        position: before.chars().count() + 1,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// `[condition] [order by …]`
fn query(input: &mut Input<'_>) -> Outcome<Query> {
    let starts_with_order = peek(keyword("order")).parse_next(input).is_ok();
    let filter = if starts_with_order || input.is_empty() {
        Filter::everything()
    } else {
        disjunction(input)?
    };
    let mut order = Vec::new();
    if keyword("order").parse_next(input).is_ok() {
        expect(keyword("by"), "`by`", input)?;
        order = separated(1.., order_item, symbol(",")).parse_next(input)?;
        if order.len() > MAX_ORDERS {
            let message = format!("a query orders by at most {MAX_ORDERS} fields");
            return Err(cut(input.current_token_start(), message));
        }
        end("`,`, `desc` or the end", input)?;
    }
    end("`and`, `or`, `order by` or the end", input)?;
    Ok(Query { filter, order })
}

fn order_item(input: &mut Input<'_>) -> Outcome<Order> {
    let word = expect(word, "a field to order by", input)?;
    let field = resolve(&word, input).map_err(ErrMode::Cut)?;
    if field.kind().is_set() {
        let message = format!("expected a field with one value, but `{field}` is a set");
        return Err(cut(word.start, message));
    }
    let direction = alt((
        keyword("desc").value(Direction::Descending),
        keyword("asc").value(Direction::Ascending),
        take_while(0..=0, ' ').value(Direction::Ascending),
    ))
    .parse_next(input)?;
    Ok(Order { field, direction })
}

fn disjunction(input: &mut Input<'_>) -> Outcome<Filter> {
    let parts = separated(1.., conjunction, keyword("or"));
    parts.map(Filter::any).parse_next(input)
}

fn conjunction(input: &mut Input<'_>) -> Outcome<Filter> {
    let parts = separated(1.., negation, keyword("and"));
    parts.map(Filter::all).parse_next(input)
}

fn negation(input: &mut Input<'_>) -> Outcome<Filter> {
    if keyword("not").parse_next(input).is_ok() {
        return Ok(deeper(negation, input)?.negated());
    }
    if symbol("(").parse_next(input).is_ok() {
        let inner = deeper(disjunction, input)?;
        expect(symbol(")"), "`and`, `or` or `)`", input)?;
        return Ok(inner);
    }
    test(input)
}

/// Runs a rule inside another, down to a bounded depth.
fn deeper<'a>(
    rule: impl FnOnce(&mut Input<'a>) -> Outcome<Filter>,
    input: &mut Input<'a>,
) -> Outcome<Filter> {
    if input.state.depth == MAX_DEPTH {
        let message =
            format!("at most {MAX_DEPTH} parentheses and `not` may stand inside each other");
        return Err(cut(input.current_token_start(), message));
    }
    input.state.depth += 1;
    let done = rule(input);
    input.state.depth -= 1;
    done
}

fn test(input: &mut Input<'_>) -> Outcome<Filter> {
    let word = expect(word, "a condition, e.g. `status = completed`", input)?;
    if word.is_keyword("true") {
        return Ok(Filter::everything());
    }
    if word.is_keyword("false") {
        return Ok(Filter::Any(Vec::new()));
    }
    let field = resolve(&word, input).map_err(ErrMode::Cut)?;
    input.state.tests += 1;
    if input.state.tests > MAX_TESTS {
        let message = format!("a query has at most {MAX_TESTS} conditions");
        return Err(cut(word.start, message));
    }
    let at = input.current_token_start();
    let condition = condition(&field, input)?;
    let test =
        Test::new(field, condition).map_err(|expected| cut(at, format!("expected {expected}")))?;
    Ok(Filter::Test(test))
}

fn condition(field: &Field, input: &mut Input<'_>) -> Outcome<Condition> {
    let kind = field.kind();
    let at = input.current_token_start();
    if keyword("is").parse_next(input).is_ok() {
        let negated = keyword("not").parse_next(input).is_ok();
        expect(keyword("null"), "`null` or `not null`", input)?;
        return Ok(Condition::Null { negated });
    }
    let negated = keyword("not").parse_next(input).is_ok();
    if negated || peek(keyword("in")).parse_next(input).is_ok() {
        expect(keyword("in"), "`in`", input)?;
        expect(symbol("("), "`(` and values", input)?;
        let values = separated(1.., |input: &mut Input<'_>| value(kind, input), symbol(","))
            .parse_next(input)?;
        expect(symbol(")"), "`,` or `)`", input)?;
        return Ok(Condition::In { negated, values });
    }
    let matches = alt((symbol("~").value(false), symbol("!~").value(true))).parse_next(input);
    if let Ok(negated) = matches {
        if !kind.is_text() {
            return Err(cut(
                at,
                format!("expected {} after `{field}`", operators(kind)),
            ));
        }
        let pattern = pattern(input)?;
        return Ok(Condition::Match { negated, pattern });
    }
    let comparison = alt((
        symbol("=").value(Comparison::Equal),
        symbol("!=").value(Comparison::NotEqual),
        symbol("<=").value(Comparison::LessOrEqual),
        symbol("<").value(Comparison::Less),
        symbol(">=").value(Comparison::GreaterOrEqual),
        symbol(">").value(Comparison::Greater),
    ))
    .parse_next(input)
    .ok()
    .filter(|comparison: &Comparison| comparison.is_equality() || kind.is_ordered());
    let Some(comparison) = comparison else {
        let operators = operators(kind);
        let message = format!(
            "expected {operators} after `{field}`{}",
            but_found(at, input)
        );
        return Err(cut(at, message));
    };
    Ok(Condition::Compare(comparison, value(kind, input)?))
}

fn value(kind: Kind, input: &mut Input<'_>) -> Outcome<Value> {
    let expected = super::ast::expected_value(kind);
    let word = expect(word, &expected, input)?;
    input.state.values += 1;
    if input.state.values > MAX_VALUES {
        let message = format!("a query has at most {MAX_VALUES} values");
        return Err(cut(word.start, message));
    }
    let text = word.text();
    if KEYWORDS.iter().any(|keyword| word.is_keyword(keyword)) {
        let message = match text.to_ascii_lowercase().as_str() {
            "null" => format!("expected {expected}; `is null` asks for what is missing"),
            _ => format!("expected {expected}, but found `{text}`; quote it if it is one"),
        };
        return Err(cut(word.start, message));
    }
    Value::read(kind, &text, !word.is_bare, input.state.now).map_err(|expected| {
        let found = shortened(&text, 40);
        let near = kind
            .choices()
            .and_then(|choices| crate::name::nearest(&found, choices));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        cut(
            word.start,
            format!("expected {expected}, but found `{found}`{hint}"),
        )
    })
}

fn pattern(input: &mut Input<'_>) -> Outcome<Pattern> {
    let word = expect(word, "a regular expression, e.g. `\"^ab+c\"`", input)?;
    Pattern::regex(&word.text()).map_err(|error| {
        // Bytes of the text are characters of the expression where no escape, quotation mark
        // or wide character stands before the mistake; elsewhere the word is named.
        let before = error.offset.and_then(|offset| word.parts.get(..offset));
        let is_plain = |part: &Letter| part.0.is_ascii() && !"\\\"'`\n\t\r".contains(part.0);
        let inside = before.filter(|before| before.iter().all(is_plain));
        let inside = inside.map_or(0, |before| before.len() + usize::from(!word.is_bare));
        cut(word.start + inside, error.to_string())
    })
}

fn resolve(word: &Word, input: &Input<'_>) -> Result<Field, Mistake> {
    Field::named(input.state.entity, &word.parts).map_err(|expected| Mistake {
        at: word.start,
        message: match expected.contains("did you mean") || word.text().is_empty() {
            true => format!("expected {expected}"),
            false => format!(
                "expected {expected}, but found `{}`",
                shortened(&word.text(), 40)
            ),
        },
    })
}

/// One word: characters that mean nothing else, and quoted ones, without space between.
fn word(input: &mut Input<'_>) -> Outcome<Word> {
    let start = input.current_token_start();
    let pieces: Vec<(String, bool)> = repeat(
        1..,
        alt((
            take_while(1.., is_bare).map(|text: &str| (text.to_owned(), false)),
            |input: &mut Input<'_>| quotation(input).map(|text| (text, true)),
        )),
    )
    .parse_next(input)?;
    space(input)?;
    let is_bare = pieces.iter().all(|(_, quoted)| !quoted);
    let parts = pieces
        .iter()
        .flat_map(|(text, quoted)| text.chars().map(|character| (character, *quoted)))
        .collect();
    Ok(Word {
        start,
        parts,
        is_bare,
    })
}

fn is_bare(character: char) -> bool {
    !character.is_whitespace() && !"()=!<>~,\"'`".contains(character)
}

/// `"…"` and `'…'` with escapes, and `` `…` `` in which only a doubled backquote means another.
fn quotation(input: &mut Input<'_>) -> Outcome<String> {
    let start = input.current_token_start();
    let mark: char = one_of(['"', '\'', '`']).parse_next(input)?;
    let mut text = String::new();
    loop {
        let at = input.current_token_start();
        let Ok(character) = next(input) else {
            return Err(cut(
                start,
                format!("the quotation mark {mark} is not closed"),
            ));
        };
        if character == mark {
            let doubled = mark == '`'
                && one_of::<_, _, ErrMode<Mistake>>(mark)
                    .parse_next(input)
                    .is_ok();
            if !doubled {
                return Ok(text);
            }
            text.push(mark);
        } else if character == '\\' && mark != '`' {
            text.push(escape(at, input)?);
        } else {
            text.push(character);
        }
    }
}

fn escape(at: usize, input: &mut Input<'_>) -> Outcome<char> {
    let wrong = || {
        let known = "`\\\\`, `\\\"`, `\\'`, `\\n`, `\\t`, `\\r` or `\\u{…}`";
        cut(
            at,
            format!("expected {known}; a backslash itself is `\\\\`"),
        )
    };
    match next(input).map_err(|_| wrong())? {
        'n' => Ok('\n'),
        't' => Ok('\t'),
        'r' => Ok('\r'),
        same @ ('\\' | '"' | '\'') => Ok(same),
        'u' => {
            let digits = |input: &mut Input<'_>| -> Outcome<String> {
                let _ = one_of('{').parse_next(input)?;
                let digits = take_while(1..=6, |c: char| c.is_ascii_hexdigit())
                    .map(str::to_owned)
                    .parse_next(input)?;
                let _ = one_of('}').parse_next(input)?;
                Ok(digits)
            };
            let digits = digits(input).map_err(|_| wrong())?;
            let code = u32::from_str_radix(&digits, 16).map_err(|_| wrong())?;
            char::from_u32(code).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn next(input: &mut Input<'_>) -> Outcome<char> {
    any.parse_next(input)
}

/// A word of the language, in whichever case.
fn keyword<'a>(keyword: &'static str) -> impl ModalParser<Input<'a>, (), Mistake> {
    move |input: &mut Input<'a>| {
        take_while(1.., is_bare)
            .verify(|text: &str| text.eq_ignore_ascii_case(keyword))
            .void()
            .parse_next(input)?;
        space(input)
    }
}

fn symbol<'a>(symbol: &'static str) -> impl ModalParser<Input<'a>, (), Mistake> {
    move |input: &mut Input<'a>| {
        symbol.void().parse_next(input)?;
        space(input)
    }
}

fn space(input: &mut Input<'_>) -> Outcome<()> {
    take_while(0.., char::is_whitespace)
        .void()
        .parse_next(input)
}

fn end(expected: &str, input: &mut Input<'_>) -> Outcome<()> {
    if input.is_empty() {
        return Ok(());
    }
    let at = input.current_token_start();
    Err(cut(
        at,
        format!("expected {expected}, but found {}", found(input)),
    ))
}

/// What `rule` reads; anything else is a mistake that says what was `expected`.
fn expect<'a, T>(
    mut rule: impl ModalParser<Input<'a>, T, Mistake>,
    expected: &str,
    input: &mut Input<'a>,
) -> Outcome<T> {
    let at = input.current_token_start();
    let before = input.clone();
    rule.parse_next(input).map_err(|error| match error {
        ErrMode::Backtrack(_) => cut(
            at,
            format!("expected {expected}, but found {}", found(&before)),
        ),
        other => other.cut(),
    })
}

fn but_found(at: usize, input: &Input<'_>) -> String {
    if input.current_token_start() == at {
        format!(", but found {}", found(input))
    } else {
        String::new()
    }
}

/// The next word or character, for messages.
fn found(input: &Input<'_>) -> String {
    let rest: &str = &input.input;
    let Some(first) = rest.chars().next() else {
        return "the end".to_owned();
    };
    let end = rest.find(|character| !is_bare(character));
    let word = match &rest[..end.unwrap_or(rest.len())] {
        "" => &rest[..first.len_utf8()],
        word => word,
    };
    format!("`{}`", shortened(word, 40))
}

fn cut(at: usize, message: String) -> ErrMode<Mistake> {
    ErrMode::Cut(Mistake { at, message })
}
