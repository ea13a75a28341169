//! A header map as a proxy-wasm host writes it.
//!
//! The number of pairs, then the lengths of each one's name and value, all as 32 bits with the low byte first; then
//! each name and each value, with a zero byte after it. Read in place: copying each name and value into a vector of its
//! own, as the SDK does, costs more than judging the headers.

/// The names and values in `map`. What does not fit into it is left out.
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
    fn a_map_that_is_cut_off_is_read_as_far_as_it_goes() {
        for end in 0..TWO.len() {
            assert!(read(&TWO[..end]).count() < 2, "{end}");
        }
        assert_eq!(read(b"\xff\xff\xff\xff").count(), 0);
    }
}
