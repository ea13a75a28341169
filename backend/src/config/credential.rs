//! Who may use the console.

use std::{fmt, str::FromStr};

/// One entry of `console.credentials`: a name, a role, and the hash of a token.
///
/// A token is random, so a fast hash is enough to keep it from whoever reads the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name under which actions are logged.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// The SHA-256 of the token.
    pub hash: [u8; 32],
}

/// What somebody may do in the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    View,
    /// Also change something.
    Operate,
}

/// What is wrong with an entry. Worded to follow the setting's name.
const PROBLEM: &str = "must consist of entries `name:role:hash`: a name of 1 to 64 characters from a-z, A-Z, 0-9, `.`, \
                       `_`, `@` and `-`; the role `view` or `operate`; and the SHA-256 of a token as 64 hexadecimal \
                       digits";

impl FromStr for Credential {
    type Err = String;

    fn from_str(entry: &str) -> Result<Self, String> {
        Self::parse(entry).ok_or_else(|| PROBLEM.to_owned())
    }
}

impl Credential {
    fn parse(entry: &str) -> Option<Self> {
        let (name, rest) = entry.split_once(':')?;
        let (role, hash) = rest.split_once(':')?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
            return None;
        }
        let role = match role {
            "view" => Role::View,
            "operate" => Role::Operate,
            _ => return None,
        };
        Some(Self { name: name.to_owned(), role, hash: from_hex(hash)? })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<_>>>()?;
    let bytes: Vec<_> = digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.name, self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_name_a_role_and_a_hash() {
        let hash = "0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdef0011";
        for (entry, role) in [
            (format!("ada:view:{hash}"), Some(Role::View)),
            (format!("ada@example.com:operate:{hash}"), Some(Role::Operate)),
            (format!("ada:admin:{hash}"), None),
            (format!(":view:{hash}"), None),
            (format!("ada lovelace:view:{hash}"), None),
            (format!("{}:view:{hash}", "a".repeat(65)), None),
            (format!("ada:view:{}", &hash[1..]), None),
            (format!("ada:view:{hash}00"), None),
            (format!("ada:view:{}", hash.replace('a', "g")), None),
            ("ada:view".to_owned(), None),
            ("ada".to_owned(), None),
        ] {
            assert_eq!(entry.parse::<Credential>().map(|credential| credential.role).ok(), role, "{entry}");
        }
        let credential: Credential = format!("ada:view:{hash}").parse().unwrap();
        assert_eq!((credential.hash[0], credential.hash[8], credential.hash[31]), (0x01, 0xab, 0x11));
        assert_eq!(format!("{credential:?}"), "ada:View", "the hash is not shown");
    }
}
