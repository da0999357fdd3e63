//! Repeated measurements of one thing, and how two that were taken in turns compare.

/// Measurements in the order in which they were taken. All figures of an empty sample are NaN.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; the mean of the two in the middle of an even number.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let half = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(middle(half.wrapping_sub(1)), middle(half))
        } else {
            middle(half)
        }
    }

    /// The median of how often `other` goes into this, round by round: what slows a whole round down cancels out.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect()).median()
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    fn sample(values: &[f64]) -> Sample {
        values.iter().copied().collect()
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(sample(&[9.0, 1.0, 2.0]).median().to_bits(), 2.0_f64.to_bits());
        assert_eq!(sample(&[9.0, 1.0, 2.0, 4.0]).median().to_bits(), 3.0_f64.to_bits());
        assert!(sample(&[]).median().is_nan());
    }

    #[test]
    fn a_slow_round_does_not_show_in_the_ratio() {
        let (mine, theirs) = (sample(&[10.0, 2.0, 10.0]), sample(&[20.0, 4.0, 20.0]));
        assert_eq!(mine.ratio_to(&theirs).to_bits(), 0.5_f64.to_bits());
    }

    #[test]
    fn the_extremes() {
        let sample = sample(&[3.0, 1.0, 2.0]);
        assert_eq!(
            (sample.least().to_bits(), sample.most().to_bits()),
            (1.0_f64.to_bits(), 3.0_f64.to_bits())
        );
    }
}
