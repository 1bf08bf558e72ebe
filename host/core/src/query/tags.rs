//! The grammar of lists in the ClearML protocol: `["a", "-b", "__$and", "c"]`.
//!
//! A list is a row of items in groups. `__$and` and `__$or` (also `__$all` and `__$any`)
//! open a group in which all, or any, must hold; `__$nop` opens one as if no operator had
//! been there. `__$not`, or a `-` in front of an item, excludes that one item.
//!
//! Where the sources disagree (decision D-1 of the specification): groups without an
//! operator mean *or*, and an exclusion in one holds for the whole list; in a group with an
//! operator an exclusion is an item like others. Groups are combined by *and* if the list
//! begins with `__$and` or `__$all`, otherwise by *or*. Empty groups are dropped.

use serde_json::Value as Json;

use super::ast::Filter;
use super::task_filter::FilterError;

struct Group {
    all: bool,
    items: Vec<Filter>,
}

/// Reads a list, or one item for a list of one. `item` makes a filter of an item, and of
/// `None` for what has no value.
///
/// # Errors
/// When it is no list of texts, an operator is unknown, or nothing follows `not`.
pub(crate) fn list(
    list: &Json,
    pointer: &str,
    mut item: impl FnMut(Option<&str>) -> Result<Filter, String>,
) -> Result<Filter, FilterError> {
    let items = match list {
        Json::Null => return Ok(Filter::everything()),
        Json::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let place = |index: usize| match list {
        Json::Array(_) => format!("{pointer}/{index}"),
        _ => pointer.to_owned(),
    };
    // A group without an operator sends its exclusions to the whole list.
    let mut groups = vec![Group {
        all: false,
        items: Vec::new(),
    }];
    let (mut implicit, mut excluding) = (true, false);
    let mut excluded = Vec::new();
    for (index, entry) in items.iter().enumerate() {
        let wrong = |message: String| FilterError::new(&place(index), message);
        let number;
        let name = match entry {
            Json::String(text) => Some(text.as_str()),
            Json::Number(digits) => {
                number = digits.to_string();
                Some(number.as_str())
            }
            Json::Null => None,
            _ => return Err(wrong(format!("must be a text, but it is {entry}"))),
        };
        let operator = name.and_then(|name| name.strip_prefix("__$"));
        if excluding && operator.is_some() {
            return Err(wrong(
                "must be what `__$not` excludes, not an operator".to_owned(),
            ));
        }
        let all = match operator {
            Some("not") => {
                excluding = true;
                continue;
            }
            Some("and" | "all") => Some(true),
            Some("or" | "any") => Some(false),
            Some("nop") => None,
            Some(unknown) => {
                let short: String = unknown.chars().take(40).collect();
                return Err(wrong(format!(
                    "must be an item or one of `__$and`, `__$or`, `__$not`, but it is `__${short}`"
                )));
            }
            None => {
                let (name, negated) = match name {
                    Some(name) if !excluding && name.starts_with('-') => (Some(&name[1..]), true),
                    name => (name, excluding),
                };
                excluding = false;
                if name == Some("") {
                    return Err(wrong("must not be empty".to_owned()));
                }
                let filter = item(name).map_err(&wrong)?;
                match (negated, implicit) {
                    (true, true) => excluded.push(filter.negated()),
                    (true, false) => push(&mut groups, filter.negated()),
                    (false, _) => push(&mut groups, filter),
                }
                continue;
            }
        };
        implicit = all.is_none();
        groups.push(Group {
            all: all.unwrap_or(false),
            items: Vec::new(),
        });
    }
    if excluding {
        let message = "must be followed by what it excludes".to_owned();
        return Err(FilterError::new(&place(items.len() - 1), message));
    }
    let first = items.first().and_then(Json::as_str);
    let groups = groups.into_iter().filter(|group| !group.items.is_empty());
    let groups: Vec<Filter> = groups
        .map(|group| match group.all {
            true => Filter::all(group.items),
            false => Filter::any(group.items),
        })
        .collect();
    let wanted = match first {
        _ if groups.is_empty() => Filter::everything(),
        Some("__$and" | "__$all") => Filter::all(groups),
        _ => Filter::any(groups),
    };
    Ok(wanted.and(Filter::all(excluded)))
}

fn push(groups: &mut [Group], filter: Filter) {
    if let Some(group) = groups.last_mut() {
        group.items.push(filter);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::ast::{Comparison, Condition, Test, Value};
    use super::super::evaluate::{Cell, Record};
    use super::super::field::{Entity, Field};
    use super::*;

    struct Tagged(BTreeSet<String>);

    impl Record for Tagged {
        fn cell(&self, _: &Field) -> Cell {
            Cell::Texts(self.0.clone())
        }
    }

    fn tags(query: &Json) -> Result<Filter, FilterError> {
        list(query, "/tags", |tag| {
            let field = Field::column(Entity::Task, "tags");
            let value = Value::Text(tag.unwrap_or_default().to_owned());
            let condition = Condition::Compare(Comparison::Equal, value);
            Test::new(field, condition).map(Filter::Test)
        })
    }

    /// Which subsets of {a, b, c, d} a list wants, and how many.
    #[track_caller]
    fn check(query: &Json, wanted: &str, count: usize) {
        let filter = tags(query).unwrap();
        let mut matching = Vec::new();
        for bits in 0..16 {
            let letters = ["a", "b", "c", "d"].iter().enumerate();
            let subset = letters.filter(|(index, _)| bits & (1 << index) != 0);
            let subset: BTreeSet<String> = subset.map(|(_, tag)| (*tag).to_owned()).collect();
            let name: String = subset.iter().map(String::as_str).collect();
            if filter.accepts(&Tagged(subset)) {
                matching.push(if name.is_empty() {
                    "-".to_owned()
                } else {
                    name
                });
            }
        }
        matching.sort();
        let mut wanted: Vec<&str> = wanted.split_whitespace().collect();
        wanted.sort_unstable();
        assert_eq!(matching, wanted, "{query}");
        assert_eq!(matching.len(), count, "{query}");
    }

    #[test]
    fn the_truth_table() {
        let all = "- a b c d ab ac ad bc bd cd abc abd acd bcd abcd";
        // TG-1 to TG-9, TG-12
        let any_of_three = "a b c ab ac ad bc bd cd abc abd acd bcd abcd";
        check(&json!(["a", "b", "c"]), any_of_three, 14);
        check(&json!(["__$and", "a", "b", "c"]), "abc abcd", 2);
        check(&json!(["__$not", "a", "b", "__$not", "c"]), "b bd", 2);
        let a_or_b_or_both_others = "a b ab ac ad bc bd abc abd acd bcd abcd cd";
        check(
            &json!(["a", "b", "__$and", "c", "d"]),
            a_or_b_or_both_others,
            13,
        );
        let grouped = json!(["__$and", "__$or", "a", "b", "__$and", "c", "d"]);
        check(&grouped, "acd bcd abcd", 3);
        check(&json!(["a", "-b"]), "a ac ad acd", 4);
        check(&json!(["-b"]), "- a c d ac ad cd acd", 8);
        let excluding = json!(["__$all", "a", "b", "__$not", "c", "__$not", "d"]);
        check(&excluding, "ab", 1);
        let mixed = json!(["__$all", "a", "b", "__$or", "c", "__$not", "d"]);
        check(&mixed, "ab abc abcd", 3);
        check(&json!([]), all, 16);
        check(&Json::Null, all, 16);
        // Beyond the table: aliases, a single item, what resets, and a group's own exclusion.
        check(&json!("a"), "a ab ac ad abc abd acd abcd", 8);
        check(&json!(["__$any", "a", "b", "c"]), any_of_three, 14);
        check(&json!(["__$and", "a", "__$nop", "b", "-c"]), "ab abd", 2);
        check(
            &json!(["__$or", "a", "-b"]),
            "- a c d ab ac ad cd abc abd acd abcd",
            12,
        );
    }

    #[test]
    fn a_tag_that_begins_with_a_dash_can_be_excluded() {
        // TG-10
        let filter = tags(&json!(["__$not", "-dash"])).unwrap();
        let tagged = |tag: &str| Tagged(BTreeSet::from([tag.to_owned()]));
        assert!(!filter.accepts(&tagged("-dash")));
        assert!(filter.accepts(&tagged("dash")));
    }

    #[test]
    fn mistakes_are_named_where_they_are() {
        // TG-11
        #[track_caller]
        fn check(query: Json, expected: &str) {
            assert_eq!(tags(&query).unwrap_err().to_string(), expected);
        }
        check(
            json!(["__$xyz", "a"]),
            "/tags/0 must be an item or one of `__$and`, `__$or`, `__$not`, but it is `__$xyz`",
        );
        check(
            json!(["__$not"]),
            "/tags/0 must be followed by what it excludes",
        );
        check(json!(["-"]), "/tags/0 must not be empty");
        check(json!(["a", ""]), "/tags/1 must not be empty");
        check(json!({"a": 1}), "/tags must be a text, but it is {\"a\":1}");
        check(
            json!(["__$not", "__$and"]),
            "/tags/1 must be what `__$not` excludes, not an operator",
        );
    }
}
