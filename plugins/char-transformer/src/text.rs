//! The text as numbers, and windows of it.

use std::path::Path;

use trainshed_sdk::rng::Rng;
use trainshed_sdk::{Failure, Tensor};

/// A text, divided into a part to learn from and one to judge by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    /// The characters that there are, in order.
    pub(crate) vocabulary: Vec<char>,
    /// The place of each character in the vocabulary.
    pub(crate) learning: Vec<i32>,
    pub(crate) judging: Vec<i32>,
}

/// Files that end so are read.
const ENDINGS: [&str; 2] = ["txt", "md"];
/// A table of more characters is a model of something else.
const MAX_CHARACTERS: usize = 10_000;

impl Text {
    /// Reads all files of text in a folder, ordered by name; the last `share` of it is to
    /// judge by. `vocabulary` is the one of the model that goes on.
    pub(crate) fn read(
        folder: &Path,
        share: f64,
        vocabulary: Option<Vec<char>>,
    ) -> Result<Self, Failure> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(Failure::failed(
                "the data set has no file of text: its name must end in `.txt` or `.md`",
            ));
        }
        let mut text = String::new();
        for path in paths {
            text.push_str(&std::fs::read_to_string(&path)?);
        }
        Self::new(&text, share, vocabulary)
    }

    fn new(text: &str, share: f64, vocabulary: Option<Vec<char>>) -> Result<Self, Failure> {
        let vocabulary = vocabulary.unwrap_or_else(|| {
            let mut characters: Vec<char> = text.chars().collect();
            characters.sort_unstable();
            characters.dedup();
            characters
        });
        let count = vocabulary.len();
        if count > MAX_CHARACTERS {
            return Err(Failure::failed(format!(
                "a text may have {MAX_CHARACTERS} different characters, but this one has {count}"
            )));
        }
        let place = |character: char| {
            let place = vocabulary.binary_search(&character).ok();
            let place = place.and_then(|place| i32::try_from(place).ok());
            place.ok_or_else(|| {
                Failure::failed(format!(
                    "the model does not know the character {character:?}"
                ))
            })
        };
        let mut learning: Vec<i32> = text.chars().map(place).collect::<Result<_, _>>()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a length, from 0 to it"
        )]
        let judged = (learning.len() as f64 * share).round() as usize;
        let judging = learning.split_off(learning.len() - judged.min(learning.len()));
        Ok(Self {
            vocabulary,
            learning,
            judging,
        })
    }

    /// Checks that each part has a window of so many characters.
    pub(crate) fn check(&self, window: usize) -> Result<(), Failure> {
        let shortest = self.learning.len().min(self.judging.len());
        if shortest < window {
            return Err(Failure::failed(format!(
                "both parts of the text must have at least {window} characters, one more than `context`, but they have {} and {}",
                self.learning.len(),
                self.judging.len()
            )));
        }
        Ok(())
    }

    /// `count` windows of `window` characters from random places of the part to learn from.
    pub(crate) fn random_windows(
        &self,
        rng: &mut Rng,
        count: usize,
        window: usize,
    ) -> Result<Tensor, Failure> {
        let places = u32::try_from(self.learning.len() - window + 1).unwrap_or(u32::MAX);
        let mut characters = Vec::with_capacity(count * window);
        for _ in 0..count {
            let place = rng.below(places) as usize;
            characters.extend_from_slice(&self.learning[place..place + window]);
        }
        Ok(Tensor::from_slice(&[count, window], &characters)?)
    }

    /// The part to judge by in windows, of which each begins with the last character of the
    /// one before; the tensor and how many there are.
    pub(crate) fn judging_windows(&self, window: usize) -> Result<(Tensor, u32), Failure> {
        let starts = (0..=self.judging.len() - window).step_by(window - 1);
        let mut characters = Vec::new();
        let mut count = 0u32;
        for start in starts {
            characters.extend_from_slice(&self.judging[start..start + window]);
            count += 1;
        }
        let tensor = Tensor::from_slice(&[count as usize, window], &characters)?;
        Ok((tensor, count))
    }

    /// The text that these numbers stand for, in one line.
    pub(crate) fn line(&self, characters: &[i32]) -> String {
        let characters = characters.iter().map(|&place| {
            let place = usize::try_from(place).ok();
            place.and_then(|place| self.vocabulary.get(place))
        });
        let shown = |character: &char| {
            if *character == '\n' {
                '⏎'
            } else {
                *character
            }
        };
        characters.flatten().map(shown).collect()
    }
}

/// Draws one of `logits` at this temperature; at 0 it is the greatest.
pub(crate) fn draw(rng: &mut Rng, logits: &[f32], temperature: f64) -> i32 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|&logit| {
        let below = f64::from(logit - greatest);
        if below == 0.0 {
            1.0
        } else {
            (below / temperature).exp()
        }
    });
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let mut rest = f64::from(rng.uniform(0.0, 1.0)) * sum;
    let drawn = weights.iter().position(|weight| {
        rest -= weight;
        rest < 0.0
    });
    let last = weights.len().saturating_sub(1);
    i32::try_from(drawn.unwrap_or(last)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_places_in_its_vocabulary() {
        let text = Text::new("abba\nca", 0.3, None).unwrap();
        assert_eq!(text.vocabulary, ['\n', 'a', 'b', 'c']);
        assert_eq!(text.learning, [1, 2, 2, 1, 0]);
        assert_eq!(text.judging, [3, 1]);
        assert_eq!(text.line(&[3, 0, 1]), "c⏎a");
    }

    #[test]
    fn a_character_that_the_model_does_not_know_is_named() {
        let known = Some(vec!['a', 'b']);
        let message = "the model does not know the character 'c'";
        assert_eq!(Text::new("abc", 0.1, known), Err(Failure::failed(message)));
    }

    #[test]
    fn a_text_that_is_shorter_than_a_window_is_refused() {
        let text = Text::new("abcdefghij", 0.3, None).unwrap();
        assert_eq!(text.check(3), Ok(()));
        let message = "both parts of the text must have at least 4 characters, one more than `context`, but they have 7 and 3";
        assert_eq!(text.check(4), Err(Failure::failed(message)));
    }

    #[test]
    fn drawing_follows_the_logits() {
        let mut rng = Rng::new(1, "test");
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY];
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[usize::try_from(draw(&mut rng, &logits, 1.0)).unwrap()] += 1;
        }
        assert!(
            (900..1100).contains(&counts[0]) && counts[2] == 0,
            "{counts:?}"
        );
        assert!((0..100).all(|_| draw(&mut rng, &logits, 0.0) == 1));
    }
}
