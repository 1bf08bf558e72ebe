//! Features as numbers of bins: what trees are grown on.

/// A column of numbers, cut into bins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Feature {
    /// The greatest value of each bin but the last, increasing.
    edges: Vec<f32>,
    /// The bin of each row, and [`Feature::missing`] where it has no value. Padded to a
    /// multiple of [`BLOCK`] rows.
    codes: Vec<u8>,
    /// Whether rows to learn from lack values.
    pub(crate) misses: bool,
}

/// Rows come in blocks of so many, the last filled up.
pub(crate) const BLOCK: usize = 16;
/// A bin, or the lack of a value, is a byte.
pub(crate) const MAX_BINS: usize = 255;

impl Feature {
    /// Cuts `values`, of which the first `learning` are learnt from, into at most `bins` bins
    /// of about as many rows each. NaN is a missing value.
    pub(crate) fn new(values: &[f32], learning: usize, bins: usize) -> Self {
        let learnt = &values[..learning.min(values.len())];
        let edges = edges(learnt, bins.clamp(2, MAX_BINS));
        let mut feature = Self {
            misses: learnt.iter().any(|value| value.is_nan()),
            codes: Vec::with_capacity(values.len().next_multiple_of(BLOCK)),
            edges,
        };
        let codes = values.iter().map(|&value| feature.code(value));
        let mut codes: Vec<u8> = codes.collect();
        codes.resize(values.len().next_multiple_of(BLOCK), 0);
        feature.codes = codes;
        feature
    }

    /// How many bins there are, without that of missing values.
    pub(crate) fn bins(&self) -> usize {
        self.edges.len() + 1
    }

    /// What stands for a missing value.
    pub(crate) fn missing(&self) -> u8 {
        u8::try_from(self.bins()).unwrap_or(u8::MAX)
    }

    /// The value up to which rows are in `bin` or one before it.
    pub(crate) fn threshold(&self, bin: u8) -> f32 {
        let edge = self.edges.get(usize::from(bin));
        edge.copied().unwrap_or(f32::INFINITY)
    }

    pub(crate) fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The codes of one block of rows.
    pub(crate) fn block(&self, block: usize) -> &[u8; BLOCK] {
        self.codes[block * BLOCK..]
            .first_chunk()
            .expect("codes are padded to whole blocks")
    }

    fn code(&self, value: f32) -> u8 {
        if value.is_nan() {
            return self.missing();
        }
        let bin = self.edges.partition_point(|&edge| edge < value);
        u8::try_from(bin).expect("at most 255 bins")
    }
}

/// Where to cut `values` into at most `bins` bins.
fn edges(values: &[f32], bins: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    // -0 and 0 are one value.
    sorted.iter_mut().for_each(|value| *value += 0.0);
    sorted.sort_unstable_by(f32::total_cmp);
    let total = sorted.len() as u64;
    let distinct = sorted.chunk_by(|a, b| a == b).count();
    let mut edges = Vec::with_capacity(distinct.min(bins));
    let mut before = 0u64;
    let mut groups = sorted.chunk_by(|a, b| a == b).peekable();
    while let (Some(group), Some(next)) = (groups.next(), groups.peek()) {
        before += group.len() as u64;
        // On a machine of 32 bits the products would not fit its words.
        let [seen, all] = [before * bins as u64, total * (edges.len() + 1) as u64];
        if (distinct <= bins || seen >= all) && edges.len() + 1 < bins {
            edges.push(between(group[0], next[0]));
        }
    }
    edges
}

/// A value from `low` on and below `high`: the mean, where it is one.
fn between(low: f32, high: f32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let mean = (f64::midpoint(f64::from(low), f64::from(high))) as f32;
    if mean >= low && mean < high {
        mean
    } else {
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_bin_each() {
        let feature = Feature::new(&[3.0, 1.0, f32::NAN, 1.0, 2.0, 9.0], 5, 255);
        assert_eq!(feature.edges, [1.5, 2.5]);
        assert_eq!(feature.codes[..6], [2, 0, 3, 0, 1, 2]);
        assert!(feature.misses);
        assert_eq!(feature.codes.len(), BLOCK);
    }

    #[test]
    fn many_values_share_bins_of_about_as_many_rows() {
        let values: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let feature = Feature::new(&values, 1000, 8);
        assert_eq!(feature.bins(), 8);
        for bin in 0..8 {
            let rows = feature.codes[..1000].iter().filter(|&&code| code == bin);
            assert_eq!(rows.count(), 125);
        }
    }

    #[test]
    fn a_value_is_in_a_bin_when_it_is_at_most_its_threshold() {
        let values = [
            0.1f32,
            0.1 + f32::EPSILON,
            7.0,
            -1e30,
            f32::INFINITY,
            f32::MAX,
        ];
        let feature = Feature::new(&values, 6, 255);
        assert_eq!(feature.bins(), 6);
        for (value, code) in values.iter().zip(&feature.codes) {
            assert!(*value <= feature.threshold(*code), "{value} {code}");
            assert!(
                *code == 0 || *value > feature.threshold(code - 1),
                "{value} {code}"
            );
        }
    }

    #[test]
    fn a_column_without_values_has_one_bin() {
        let feature = Feature::new(&[f32::NAN, f32::NAN], 2, 255);
        assert_eq!((feature.bins(), &feature.codes[..2]), (1, &[1, 1][..]));
    }
}
