//! The order of semantic versions.

use std::cmp::Ordering;

/// Compares two semantic versions by their precedence. Build parts do not count.
///
/// Source: Tom Preston-Werner, "Semantic Versioning 2.0.0", section 11. A text that is no
/// semantic version comes before all that are.
pub(crate) fn compare_versions(left: &str, right: &str) -> Ordering {
    let (left_core, left_pre) = split(left);
    let (right_core, right_pre) = split(right);
    left_core
        .cmp(&right_core)
        .then_with(|| match (left_pre, right_pre) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (left, right) => left
                .split('.')
                .map(PreRelease::parse)
                .cmp(right.split('.').map(PreRelease::parse)),
        })
}

/// A part of a pre-release; numbers come before texts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PreRelease<'a> {
    Number(u64),
    Text(&'a str),
}

impl<'a> PreRelease<'a> {
    fn parse(part: &'a str) -> Self {
        part.parse().map_or(Self::Text(part), Self::Number)
    }
}

/// The numbers, and the pre-release or nothing.
fn split(version: &str) -> (Option<Vec<u64>>, &str) {
    let version = version.split('+').next().unwrap_or_default();
    let (core, pre_release) = version.split_once('-').unwrap_or((version, ""));
    let numbers = core.split('.').map(|number| number.parse().ok()).collect();
    (numbers, pre_release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_standard_says() {
        let ordered = [
            "nonsense",
            "0.9.0",
            "0.10.0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(
                compare_versions(pair[0], pair[1]),
                Ordering::Less,
                "{pair:?}"
            );
            assert_eq!(
                compare_versions(pair[1], pair[0]),
                Ordering::Greater,
                "{pair:?}"
            );
        }
        assert_eq!(compare_versions("1.0.0+a", "1.0.0+b"), Ordering::Equal);
    }
}
