//! Where files lie that the server keeps or reads: folders and object stores, by address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most bytes of an address.
pub const MAX_ADDRESS_BYTES: usize = 4096;

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A folder of the server's machine, or one that it shares with others.
    File,
    /// Amazon S3, or what speaks its protocol at a host and port.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Azure,
    /// A web server without encryption; only to read from.
    Http,
    /// A web server; only to read from.
    Https,
}

/// The place of a file or of many: `/mnt/share/folder` or `file:///mnt/share/folder`,
/// `s3://bucket/folder`, `s3://host:port/bucket/folder`, `gs://bucket/folder`,
/// `azure://account.blob.core.windows.net/container/folder`, `https://host/folder`.
///
/// A parsed one has no user or password in it, no part that is empty, `.` or `..`, and no
/// control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    scheme: Scheme,
    /// Host, or bucket; empty for folders.
    authority: String,
    /// Parts with `/` between them, none before the first.
    path: String,
}

/// A text that is no address; says why, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Neither an absolute path nor a known scheme.
    #[error(
        "`{0}` is no address: it must be an absolute path, or begin with `s3://`, `gs://`, `azure://`, `file:///`, `https://` or `http://`"
    )]
    Scheme(String),
    /// A host where only a bucket may stand.
    #[error(
        "`{0}` looks like a host without a port: a store that is not Amazon's is written `s3://host:port/bucket/folder`"
    )]
    Port(String),
    /// No bucket, container or host.
    #[error("`{address}` names no {what}")]
    Incomplete {
        /// As given.
        address: String,
        /// What is not there.
        what: &'static str,
    },
    /// An account that is not written out.
    #[error("`{0}` must be written `azure://account.blob.core.windows.net/container/folder`")]
    Azure(String),
    /// A user or a password, which belong into the environment.
    #[error("an address must not hold a user or a password: they are read from the environment")]
    Credentials,
    /// A part that means another place, or nothing.
    #[error("`{0}` has a part that is empty, `.` or `..`, or a control character")]
    Path(String),
    /// Longer than [`MAX_ADDRESS_BYTES`].
    #[error("an address must have at most {MAX_ADDRESS_BYTES} bytes, but it has {0}")]
    TooLong(usize),
}

impl Address {
    /// How it is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host with port, or bucket; empty for folders.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What follows, without a `/` before it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether files can be written there.
    pub fn is_writable(&self) -> bool {
        !matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    /// The bucket or container, and the path inside it; all of the path where there is none.
    pub fn bucket(&self) -> (&str, &str) {
        match self.scheme {
            Scheme::S3 if !self.authority.contains(':') => (&self.authority, &self.path),
            Scheme::Gs => (&self.authority, &self.path),
            Scheme::S3 | Scheme::Azure => self.path.split_once('/').unwrap_or((&self.path, "")),
            Scheme::File | Scheme::Http | Scheme::Https => ("", &self.path),
        }
    }

    /// The place `below` inside this one; `None` where `below` has a part that leads elsewhere.
    pub fn join(&self, below: &str) -> Option<Self> {
        let path = match self.path.as_str() {
            "" => below.to_owned(),
            path => format!("{path}/{below}"),
        };
        is_path(&path).then(|| Self {
            scheme: self.scheme,
            authority: self.authority.clone(),
            path,
        })
    }

    /// Whether it is `place` or lies in it.
    pub fn lies_in(&self, place: &Self) -> bool {
        self.scheme == place.scheme
            && self.authority == place.authority
            && self.path.strip_prefix(&place.path).is_some_and(|rest| {
                rest.is_empty() || place.path.is_empty() || rest.starts_with('/')
            })
    }

    /// The last part of the path, or the whole where there is none.
    pub fn name(&self) -> &str {
        match self.path.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.authority,
        }
    }
}

/// Schemes whose addresses are run or shown by whoever follows them, rather than fetched.
const ACTIVE_SCHEMES: [&str; 6] = [
    "about",
    "blob",
    "data",
    "javascript",
    "vbscript",
    "view-source",
];

/// Whether `uri` can be recorded as the place of something that is never read: an address of
/// any scheme but those that a browser would run, 1 to [`MAX_ADDRESS_BYTES`] bytes without
/// white space or control characters.
pub fn is_uri(uri: &str) -> bool {
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_active = |active: &&str| scheme.eq_ignore_ascii_case(active);
    uri.len() <= MAX_ADDRESS_BYTES
        && (uri.starts_with('/')
            || (scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.bytes().all(known)
                && !ACTIVE_SCHEMES.iter().any(is_active)))
        && !uri.chars().any(|c| c.is_control() || c.is_whitespace())
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(InvalidAddress::TooLong(text.len()));
        }
        if let Some(path) = text.strip_prefix('/') {
            return folder(text, path);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("file", rest)) => {
                let path = rest.strip_prefix('/');
                return folder(text, path.ok_or_else(|| unknown(text))?);
            }
            Some(("s3", rest)) => (Scheme::S3, rest),
            Some(("gs", rest)) => (Scheme::Gs, rest),
            Some(("azure", rest)) => (Scheme::Azure, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(unknown(text)),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(InvalidAddress::Credentials);
        }
        let incomplete = |what| InvalidAddress::Incomplete {
            address: text.to_owned(),
            what,
        };
        let host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(host) {
            return Err(incomplete(match scheme {
                Scheme::S3 | Scheme::Gs => "bucket",
                _ => "host",
            }));
        }
        let address = Self {
            scheme,
            authority: authority.to_owned(),
            path: path.strip_suffix('/').unwrap_or(path).to_owned(),
        };
        if !address.path.is_empty() && !is_path(&address.path) {
            return Err(InvalidAddress::Path(text.to_owned()));
        }
        match scheme {
            Scheme::S3 if authority.contains(':') => {
                let port = authority.rsplit(':').next().unwrap_or_default();
                if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                    return Err(InvalidAddress::Port(authority.to_owned()));
                }
            }
            // Bucket names may have dots, but such buckets cannot be reached over TLS by name,
            // and a host without its port is by far the likelier meaning.
            Scheme::S3 if authority.contains('.') || authority == "localhost" => {
                return Err(InvalidAddress::Port(authority.to_owned()));
            }
            Scheme::Azure if !is_account(authority) => {
                return Err(InvalidAddress::Azure(text.to_owned()));
            }
            _ => {}
        }
        match (scheme, address.bucket().0) {
            (Scheme::S3 | Scheme::Gs, "") => Err(incomplete("bucket")),
            (Scheme::Azure, "") => Err(incomplete("container")),
            _ => Ok(address),
        }
    }
}

fn unknown(text: &str) -> InvalidAddress {
    InvalidAddress::Scheme(text.chars().take(200).collect())
}

fn folder(text: &str, path: &str) -> Result<Address, InvalidAddress> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if !path.is_empty() && !is_path(path) {
        return Err(InvalidAddress::Path(text.to_owned()));
    }
    Ok(Address {
        scheme: Scheme::File,
        authority: String::new(),
        path: path.to_owned(),
    })
}

fn is_account(authority: &str) -> bool {
    let account = authority.strip_suffix(".blob.core.windows.net");
    account.is_some_and(|account| {
        !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn is_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(char::is_control)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::File => "file",
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Azure => "azure",
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.authority)?;
        match (self.scheme, self.path.as_str()) {
            (Scheme::File, path) => write!(f, "/{path}"),
            (_, "") => Ok(()),
            (_, path) => write!(f, "/{path}"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bucket: &str, path: &str) {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.bucket(), (bucket, path), "{text}");
        assert_eq!(address.to_string().parse(), Ok(address), "{text}");
    }

    #[test]
    fn every_scheme_is_understood() {
        check("/mnt/share/folder", "", "mnt/share/folder");
        check("file:///mnt/share/folder/", "", "mnt/share/folder");
        check("s3://bucket", "bucket", "");
        check("s3://bucket/folder/below", "bucket", "folder/below");
        check("s3://10.0.0.1:9000/bucket/folder", "bucket", "folder");
        check("s3://minio.example.com:9000/bucket", "bucket", "");
        check("gs://bucket-name/folder", "bucket-name", "folder");
        check(
            "azure://me.blob.core.windows.net/box/folder",
            "box",
            "folder",
        );
        check("https://example.com/a/b.csv", "", "a/b.csv");
    }

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }

    #[test]
    fn what_is_no_address_is_told_what_would_be_right() {
        refused("folder/below", "absolute path");
        refused("ftp://host/x", "absolute path");
        refused("file://host/x", "absolute path");
        refused("s3://minio.example.com/bucket", "without a port");
        refused("s3://localhost/bucket", "without a port");
        refused("s3://host:port/bucket", "without a port");
        refused("s3://host:9000", "names no bucket");
        refused("s3:///x", "names no bucket");
        refused("azure://box/x", "azure://account");
        refused("azure://me.blob.core.windows.net", "names no container");
        refused("s3://key:secret@host:9000/bucket", "environment");
        refused("s3://bucket/a/../b", "`..`");
        refused("/a//b", "empty");
        refused("/a\nb", "control");
        refused(&format!("/{}", "a".repeat(5000)), "at most");
    }

    #[test]
    fn a_place_holds_what_lies_below_it_and_not_what_is_only_spelled_alike() {
        let place: Address = "s3://bucket/team".parse().unwrap();
        let inside = place.join("a/b").unwrap();
        assert_eq!(inside.to_string(), "s3://bucket/team/a/b");
        assert!(inside.lies_in(&place) && place.lies_in(&place));
        let other: Address = "s3://bucket/teamwork/a".parse().unwrap();
        assert!(!other.lies_in(&place));
        assert!(other.lies_in(&"s3://bucket".parse().unwrap()));
        assert_eq!(place.join("../x"), None);
    }

    #[test]
    fn a_link_has_a_scheme_or_is_an_absolute_path() {
        for good in ["https://host/x?y=1", "hf://models/x", "/mnt/x"] {
            assert!(is_uri(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "://x",
            "https://a b",
            "java script://x",
            "a\n://",
            "1://x",
        ] {
            assert!(!is_uri(bad), "{bad}");
        }
    }

    #[test]
    fn a_link_never_runs_when_it_is_followed() {
        for bad in [
            "javascript://%0aalert(1)",
            "JavaScript://%0aalert(1)",
            "javascript:alert(1)",
            "data:text/html,x",
            "DATA://text/html,x",
            "vbscript://x",
            "blob://x",
            "view-source://x",
        ] {
            assert!(!is_uri(bad), "{bad}");
        }
    }
}
