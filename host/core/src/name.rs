//! What names may look like.

/// Fewest characters of a task's or project's name.
pub const MIN_NAME_CHARS: usize = 3;
/// Most bytes of a task's, project's, data set's or series' name.
pub const MAX_NAME_BYTES: usize = 200;

/// A name that breaks a rule; says which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing but white space.
    #[error("must not be blank")]
    Blank,
    /// Fewer than [`MIN_NAME_CHARS`] characters after trimming.
    #[error("must have at least {MIN_NAME_CHARS} characters, but `{0}` has {n}", n = .0.chars().count())]
    TooShort(String),
    /// More than [`MAX_NAME_BYTES`] bytes.
    #[error("must have at most {MAX_NAME_BYTES} bytes, but it has {0}")]
    TooLong(usize),
    /// A control character, e.g. a line break.
    #[error("must not have control characters")]
    ControlCharacter,
}

/// Checks the name of a task, project or data set and trims white space around it.
///
/// # Errors
/// The first broken rule.
pub fn check_name(name: &str) -> Result<&str, InvalidName> {
    let name = name.trim();
    if name.is_empty() {
        return Err(InvalidName::Blank);
    }
    if name.chars().count() < MIN_NAME_CHARS {
        return Err(InvalidName::TooShort(name.to_owned()));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong(name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidName::ControlCharacter);
    }
    Ok(name)
}

/// Whether `name` can name a metric category, key, title, series or single value:
/// 1 to 200 bytes without control characters.
pub fn is_series_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// Whether `name` can name a plugin: 1 to 64 bytes of `[a-z0-9-]`, beginning with a letter.
pub fn is_plugin_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether `name` can name a saved model: 1 to 100 bytes of `[A-Za-z0-9._-]`, not `.` or `..`.
pub fn is_model_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether `path` can name a file in a data set: relative, `/` between parts, no part that
/// is empty, `.` or `..`, no backslash, colon or control character, at most 1,000 bytes.
pub fn is_file_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1000
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path
            .chars()
            .any(|c| c.is_control() || c == '\\' || c == ':')
}

/// Encodes a job's name for storage paths and filters: `:` becomes `%3A`, `,` becomes `%2C`,
/// and `%` becomes `%25`, so that [`decode_job_name`] gives back exactly what was encoded.
pub fn encode_job_name(name: &str) -> String {
    name.replace('%', "%25")
        .replace(':', "%3A")
        .replace(',', "%2C")
}

/// The name that [`encode_job_name`] encoded.
pub fn decode_job_name(encoded: &str) -> String {
    encoded
        .replace("%2C", ",")
        .replace("%3A", ":")
        .replace("%25", "%")
}

/// The candidate that is spelled most like `name`, if any is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters, of at most the first 100 of each.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(100).collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, left_char) in left.chars().take(100).enumerate() {
        let mut current = vec![row + 1];
        for (column, right_char) in right.iter().enumerate() {
            let substitute = previous[column] + usize::from(left_char != *right_char);
            current.push(
                substitute
                    .min(previous[column + 1] + 1)
                    .min(current[column] + 1),
            );
        }
        previous = current;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn job_names_are_encoded_as_the_sources_say() {
        assert_eq!(
            encode_job_name("experiment:v1,batch:32"),
            "experiment%3Av1%2Cbatch%3A32"
        );
    }

    proptest! {
        #[test]
        fn encoding_a_job_name_loses_nothing(name in r"[a:,%3AC25 ]{0,20}|.{0,30}") {
            prop_assert_eq!(decode_job_name(&encode_job_name(&name)), name);
        }
    }

    #[test]
    fn names_have_three_characters_after_trimming() {
        assert_eq!(check_name("  abc "), Ok("abc"));
        assert_eq!(check_name("äöü"), Ok("äöü"));
        assert_eq!(check_name(" ab "), Err(InvalidName::TooShort("ab".into())));
        assert_eq!(check_name("\t "), Err(InvalidName::Blank));
        assert_eq!(check_name("a\nbc"), Err(InvalidName::ControlCharacter));
        assert_eq!(check_name(&"x".repeat(201)), Err(InvalidName::TooLong(201)));
    }

    #[test]
    fn paths_cannot_leave_the_data_set() {
        for good in ["a.csv", "train/0/img 1.png", "..a", "ü/ü"] {
            assert!(is_file_path(good), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "c:\\x", "a\\b", "a\nb",
        ] {
            assert!(!is_file_path(bad), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_only_when_it_is_near() {
        let known = ["digits-mlp", "standardize"];
        assert_eq!(nearest("digit-mlp", known), Some("digits-mlp"));
        assert_eq!(nearest("resnet50", known), None);
    }
}
