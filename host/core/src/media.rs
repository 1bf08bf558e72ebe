//! What samples can be: images, sound, video, pages and texts.

use crate::text::shortened;

/// Most bytes of one sample.
pub const MAX_MEDIA_BYTES: u64 = 64 << 20;
/// So many first bytes are enough to know a type by.
pub const MEDIA_HEAD_BYTES: usize = 4096;

/// A type of samples, and what its files begin with.
struct MediaType {
    name: &'static str,
    /// Names that others have for it.
    aliases: &'static [&'static str],
    suffix: &'static str,
    form: Form,
}

enum Form {
    /// One of these byte strings, each at its offset.
    Magic(&'static [&'static [(usize, &'static [u8])]]),
    /// UTF-8.
    Text,
}

const TYPES: [MediaType; 13] = [
    MediaType {
        name: "image/png",
        aliases: &[],
        suffix: "png",
        form: Form::Magic(&[&[(0, b"\x89PNG\r\n\x1a\n")]]),
    },
    MediaType {
        name: "image/jpeg",
        aliases: &["image/jpg"],
        suffix: "jpg",
        form: Form::Magic(&[&[(0, b"\xff\xd8\xff")]]),
    },
    MediaType {
        name: "image/gif",
        aliases: &[],
        suffix: "gif",
        form: Form::Magic(&[&[(0, b"GIF8")]]),
    },
    MediaType {
        name: "image/webp",
        aliases: &[],
        suffix: "webp",
        form: Form::Magic(&[&[(0, b"RIFF"), (8, b"WEBP")]]),
    },
    MediaType {
        name: "audio/wav",
        aliases: &["audio/x-wav", "audio/wave", "audio/vnd.wave"],
        suffix: "wav",
        form: Form::Magic(&[&[(0, b"RIFF"), (8, b"WAVE")]]),
    },
    MediaType {
        name: "audio/mpeg",
        aliases: &["audio/mp3"],
        suffix: "mp3",
        form: Form::Magic(&[
            &[(0, b"ID3")],
            &[(0, b"\xff\xfb")],
            &[(0, b"\xff\xf3")],
            &[(0, b"\xff\xf2")],
        ]),
    },
    MediaType {
        name: "audio/flac",
        aliases: &["audio/x-flac"],
        suffix: "flac",
        form: Form::Magic(&[&[(0, b"fLaC")]]),
    },
    MediaType {
        name: "audio/ogg",
        aliases: &["video/ogg", "application/ogg"],
        suffix: "ogg",
        form: Form::Magic(&[&[(0, b"OggS")]]),
    },
    MediaType {
        name: "video/mp4",
        aliases: &[],
        suffix: "mp4",
        form: Form::Magic(&[&[(4, b"ftyp")]]),
    },
    MediaType {
        name: "video/webm",
        aliases: &["video/x-matroska"],
        suffix: "webm",
        form: Form::Magic(&[&[(0, b"\x1a\x45\xdf\xa3")]]),
    },
    MediaType {
        name: "image/svg+xml",
        aliases: &[],
        suffix: "svg",
        form: Form::Text,
    },
    MediaType {
        name: "text/html",
        aliases: &[],
        suffix: "html",
        form: Form::Text,
    },
    MediaType {
        name: "text/plain",
        aliases: &[],
        suffix: "txt",
        form: Form::Text,
    },
];

/// The type of a sample whose first bytes are `head`: the one that was declared, if the bytes
/// do not say otherwise, or else the one that the bytes show. Gives the type and the suffix
/// of its files.
///
/// # Errors
/// A sentence that goes on from a name, e.g. `must be of type …`.
pub fn media_type(
    declared: Option<&str>,
    head: &[u8],
) -> Result<(&'static str, &'static str), String> {
    let head = &head[..head.len().min(MEDIA_HEAD_BYTES)];
    let Some(declared) = declared else {
        let shown = TYPES.iter().find(|known| known.form.shows(head));
        // Texts look alike, so that the plainest stands for all.
        return match shown {
            Some(known) if matches!(known.form, Form::Magic(_)) => Ok((known.name, known.suffix)),
            Some(_) => Ok(("text/plain", "txt")),
            None => Err(format!("must be of type {}, but it is none", type_names())),
        };
    };
    let name = declared.split(';').next().unwrap_or_default().trim();
    let name = name.to_ascii_lowercase();
    let is_named = |known: &&MediaType| known.name == name || known.aliases.contains(&&*name);
    let Some(known) = TYPES.iter().find(is_named) else {
        return Err(format!(
            "must be of type {}, but it is declared as `{}`",
            type_names(),
            shortened(declared, 80).escape_debug()
        ));
    };
    if known.form.shows(head) {
        return Ok((known.name, known.suffix));
    }
    Err(match known.form {
        Form::Text => format!("is declared as {name}, but it is not UTF-8"),
        Form::Magic(_) => format!("is declared as {name}, but its first bytes are of no such file"),
    })
}

/// Whether a sample can have the type `name`, which [`media_type`] gave.
pub fn is_media_type(name: &str) -> bool {
    TYPES.iter().any(|known| known.name == name)
}

/// The type of a link of which none is known.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// The type that the end of an address speaks of, before `?` and `#`; none where it is no
/// sample's.
pub fn media_type_of_address(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let (_, suffix) = path.rsplit_once('.')?;
    let suffix = match suffix.to_ascii_lowercase() {
        suffix if suffix == "jpeg" => "jpg".to_owned(),
        suffix => suffix,
    };
    let known = TYPES.iter().find(|known| known.suffix == suffix);
    known.map(|known| known.name)
}

/// The suffix of files of the type `name`; `bin` where it is not known.
pub fn media_suffix(name: &str) -> &'static str {
    let known = TYPES.iter().find(|known| known.name == name);
    known.map_or("bin", |known| known.suffix)
}

/// The types that samples can have, for people.
pub fn type_names() -> String {
    TYPES.map(|known| known.name).join(", ")
}

impl Form {
    fn shows(&self, head: &[u8]) -> bool {
        match self {
            Self::Magic(any) => any.iter().any(|all| {
                all.iter().all(|(offset, bytes)| {
                    head.get(*offset..)
                        .is_some_and(|rest| rest.starts_with(bytes))
                })
            }),
            Self::Text => match std::str::from_utf8(head) {
                Ok(text) => !text.contains('\0'),
                // A letter may have been cut at the end.
                Err(error) => error.error_len().is_none() && head.len() == MEDIA_HEAD_BYTES,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(declared: Option<&str>, head: &[u8]) -> Result<&'static str, String> {
        media_type(declared, head).map(|(name, _)| name)
    }

    #[test]
    fn a_type_is_known_by_the_first_bytes() {
        for (head, expected) in [
            (b"\x89PNG\r\n\x1a\nrest".as_slice(), "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
            (b"ID3\x04", "audio/mpeg"),
            (b"fLaC", "audio/flac"),
            (b"OggS", "audio/ogg"),
            (b"\0\0\0\x18ftypmp42", "video/mp4"),
            (b"\x1a\x45\xdf\xa3", "video/webm"),
            (b"<p>hello</p>", "text/plain"),
            (b"", "text/plain"),
        ] {
            assert_eq!(found(None, head), Ok(expected));
        }
        assert!(found(None, b"\xfe\xff\0").is_err());
    }

    #[test]
    fn what_is_declared_must_fit_the_bytes() {
        assert_eq!(
            found(Some("text/HTML; charset=utf-8"), b"<p>"),
            Ok("text/html")
        );
        assert_eq!(
            found(Some("audio/x-wav"), b"RIFF\0\0\0\0WAVE"),
            Ok("audio/wav")
        );
        assert!(found(Some("image/png"), b"<script>").is_err());
        assert!(found(Some("text/html"), b"\x89PNG\r\n\x1a\n").is_err());
        let error = found(Some("application/x-msdownload"), b"MZ").unwrap_err();
        assert!(error.contains("application/x-msdownload"), "{error}");
    }

    #[test]
    fn a_letter_that_is_cut_at_the_end_of_the_head_is_no_fault() {
        let mut text = "x".repeat(MEDIA_HEAD_BYTES - 1);
        text.push('é');
        assert_eq!(found(Some("text/plain"), text.as_bytes()), Ok("text/plain"));
        assert!(found(Some("text/plain"), &"é".as_bytes()[..1]).is_err());
    }
}
