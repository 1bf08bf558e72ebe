//! Numbers of variable length: seven bits to a byte, the low ones first (LEB128).

/// Appends `number`.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("less than 0x80"));
}

/// Takes a number from the front; `None` when the bytes end before it does, or it has more
/// than 64 bits.
#[inline]
pub(crate) fn take(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first()?;
    if *first < 0x80 {
        *rest = after;
        return Some(u64::from(*first));
    }
    let mut number = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * index);
        if *byte < 0x80 {
            *rest = &rest[index + 1..];
            return Some(number);
        }
    }
    None
}

/// Small numbers of either sign as small numbers without.
pub(crate) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// The number of which [`zigzag`] made `number`.
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Appends a column as its first number, its first difference, and then the differences of
/// differences: a column that grows evenly is a byte for each number.
pub(crate) fn put_column(bytes: &mut Vec<u8>, mut column: impl Iterator<Item = i64>) {
    let Some(mut last) = column.next() else {
        return;
    };
    put(bytes, zigzag(last));
    let mut difference = 0_i64;
    for number in column {
        let now = number.wrapping_sub(last);
        put(bytes, zigzag(now.wrapping_sub(difference)));
        (last, difference) = (number, now);
    }
}

/// Takes `count` numbers that [`put_column`] wrote.
pub(crate) fn take_column(rest: &mut &[u8], count: usize, mut each: impl FnMut(i64)) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let mut last = unzigzag(take(rest)?);
    each(last);
    let mut difference = 0_i64;
    for _ in 1..count {
        difference = difference.wrapping_add(unzigzag(take(rest)?));
        last = last.wrapping_add(difference);
        each(last);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_comes_back(column in prop::collection::vec(any::<i64>(), 0..30)) {
            let mut bytes = Vec::new();
            put_column(&mut bytes, column.iter().copied());
            let mut rest = bytes.as_slice();
            let mut back = Vec::new();
            take_column(&mut rest, column.len(), |number| back.push(number)).unwrap();
            prop_assert_eq!(back, column);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_number_comes_back(number in any::<u64>(), signed in any::<i64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            prop_assert_eq!(take(&mut bytes.as_slice()), Some(number));
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_none() {
        assert_eq!(take(&mut [0xff; 10].as_slice()), None);
        assert_eq!(
            take(&mut [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2].as_slice()),
            None
        );
    }
}
