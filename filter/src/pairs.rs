//! Reads a header map in the format of proxy-wasm.
//!
//! The map begins with the number of pairs, followed by the lengths of each name and value, all as
//! 32-bit little-endian numbers. Then come the names and values, each followed by a zero byte. They
//! are read in place, because copying each into its own vector, as the SDK does, costs more than
//! judging the headers.

/// Returns the names and values in `map`. Leaves out pairs that extend beyond the end of the map.
pub fn read(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (count, rest) = map.split_first_chunk().map_or((0, map), |(count, rest)| (number(*count), rest));
    let (lengths, mut texts) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or_default();
    let mut text = move |length: [u8; 4]| {
        let (text, rest) = texts.split_at_checked(number(length))?;
        texts = rest.get(1..)?;
        Some(text)
    };
    lengths
        .as_chunks()
        .0
        .iter()
        .map_while(move |&[n0, n1, n2, n3, v0, v1, v2, v3]| Some((text([n0, n1, n2, n3])?, text([v0, v1, v2, v3])?)))
}

fn number(bytes: [u8; 4]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0a\0\xff1\0b-c\0\0";

    #[test]
    fn names_and_values_are_read_in_place() {
        assert!(read(TWO).eq([(&b"a"[..], &b"\xff1"[..]), (b"b-c", b"")]));
        assert_eq!(read(b"\0\0\0\0").count(), 0);
    }

    #[test]
    fn a_truncated_map_is_read_up_to_its_end() {
        for end in 0..TWO.len() {
            assert!(read(&TWO[..end]).count() < 2, "{end}");
        }
        assert_eq!(read(b"\xff\xff\xff\xff").count(), 0);
    }
}
