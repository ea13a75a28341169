//! Reads what a WebAssembly module says about itself, without running it.

/// The custom section in which the filter states its version.
const VERSION_SECTION: &[u8] = b"truenroll_filter_version";
/// What every module begins with: `\0asm` and the version of the binary format, 1.
const MAGIC: &[u8] = b"\0asm\x01\0\0\0";
/// The identifier of custom sections.
const CUSTOM: u8 = 0;

/// Returns the version of the filter in `module`, for example `0.1.0`. Returns none for a module
/// that states no version, as those before 0.1.0 and modules of others do.
pub fn version(module: &[u8]) -> Option<&str> {
    let mut rest = module.strip_prefix(MAGIC)?;
    while let Some((&id, after_id)) = rest.split_first() {
        let (section, after) = sized(after_id)?;
        rest = after;
        if id != CUSTOM {
            continue;
        }
        let (name, content) = sized(section)?;
        if name == VERSION_SECTION {
            return std::str::from_utf8(content).ok().filter(|text| is_version(text));
        }
    }
    None
}

/// Splits off what a length in front of it covers.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = leb128(bytes)?;
    rest.split_at_checked(length)
}

/// Reads an unsigned 32-bit number in LEB128: seven bits in each byte, the lowest first.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    const MOST_BYTES: usize = 5;
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().take(MOST_BYTES) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(number).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

/// Whether the text can be part of a build's name once its dots are replaced.
fn is_version(text: &str) -> bool {
    const LONGEST: usize = 32;
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn custom(name: &[u8], content: &[u8]) -> Vec<u8> {
        section(CUSTOM, &[&[u8::try_from(name.len()).unwrap()], name, content].concat())
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [MAGIC, &sections.concat()].concat()
    }

    #[test]
    fn the_version_is_found_among_other_sections() {
        let types = section(1, &[0]);
        let other = custom(b"producers", b"1.2.3");
        let version_section = custom(VERSION_SECTION, b"0.1.0");
        for (sections, expected) in [
            (vec![types.clone(), other.clone(), version_section.clone()], Some("0.1.0")),
            (vec![version_section, types.clone()], Some("0.1.0")),
            (vec![types, other], None),
            (vec![custom(VERSION_SECTION, b"")], None),
            (vec![custom(VERSION_SECTION, b"0.1.0\n")], None),
            (vec![custom(VERSION_SECTION, &[b'1'; 33])], None),
            (vec![custom(VERSION_SECTION, b"\xff")], None),
        ] {
            assert_eq!(version(&module(&sections)), expected, "{sections:?}");
        }
    }

    #[test]
    fn a_length_of_several_bytes_is_read() {
        let long = [&[1, 0x80, 0x01], [7; 128].as_slice()].concat();
        assert_eq!(version(&module(&[long, custom(VERSION_SECTION, b"2.0.0-rc.1")])), Some("2.0.0-rc.1"));
    }

    #[test]
    fn a_truncated_module_has_no_version() {
        let whole = module(&[section(1, &[0]), custom(VERSION_SECTION, b"0.1.0")]);
        for length in 0..whole.len() {
            assert_eq!(version(&whole[..length]), None, "{length}");
        }
        assert_eq!(version(&module(&[vec![CUSTOM, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]])), None);
    }
}
