//! A model: trees, and the tensors that they are saved as.

use trainshed_sdk::tensor::Element;
use trainshed_sdk::{Checkpoint, Failure, Tensor};

use crate::tree::{MAX_LEAVES, Node, Split, Tree};

/// Trees, and what their sums are added to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// In the order of rounds; of each round one for each score.
    pub(crate) trees: Vec<Tree>,
    /// The scores of a row before the first tree.
    pub(crate) base: Vec<f32>,
    /// What a score of numbers is to be added to.
    pub(crate) mean: f64,
    /// The names of classes; none for numbers.
    pub(crate) classes: Vec<String>,
}

/// The nodes of all trees, one after another, as they are saved.
#[derive(Debug, Clone, Default, PartialEq)]
struct Nodes {
    /// -1 for a leaf.
    feature: Vec<i32>,
    threshold: Vec<f32>,
    missing_left: Vec<bool>,
    /// Counted from the first node of the first tree.
    left: Vec<i32>,
    right: Vec<i32>,
    value: Vec<f32>,
    gain: Vec<f32>,
    /// Of each tree.
    root: Vec<i32>,
}

impl Model {
    /// How many rounds it has.
    pub(crate) fn rounds(&self) -> usize {
        self.trees.len() / self.base.len().max(1)
    }

    /// The scores of a row of values.
    pub(crate) fn scores(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        let count = self.base.len();
        let bases = self.base.iter().enumerate();
        bases.map(move |(index, &base)| {
            let trees = self.trees.iter().skip(index).step_by(count);
            trees.fold(base, |score, tree| score + tree.value(row))
        })
    }

    /// By how much splits of each of `features` features made the loss smaller, as shares of
    /// all.
    pub(crate) fn importance(&self, features: usize) -> Vec<f64> {
        let mut gains = vec![0.0; features];
        for tree in &self.trees {
            for node in &tree.nodes {
                if let Node::Split(split) = node {
                    gains[split.feature as usize] += f64::from(split.gain);
                }
            }
        }
        let all: f64 = gains.iter().sum();
        let shares = gains
            .into_iter()
            .map(|gain| gain / all.max(f64::MIN_POSITIVE));
        shares.collect()
    }

    /// The tensors of its first `rounds` rounds, as they are saved.
    pub(crate) fn tensors(&self, rounds: usize) -> Result<Vec<(String, Tensor)>, Failure> {
        fn list<T: Element>(name: &str, elements: &[T]) -> Result<(String, Tensor), Failure> {
            let tensor = Tensor::from_slice(&[elements.len()], elements)?;
            Ok((name.to_owned(), tensor))
        }
        let nodes = Nodes::of(&self.trees[..rounds * self.base.len()]);
        let bases = self.base.iter().map(|&base| f64::from(base) + self.mean);
        Ok(vec![
            list("feature", &nodes.feature)?,
            list("threshold", &nodes.threshold)?,
            list("missing_left", &nodes.missing_left)?,
            list("left", &nodes.left)?,
            list("right", &nodes.right)?,
            list("value", &nodes.value)?,
            list("gain", &nodes.gain)?,
            list("root", &nodes.root)?,
            list("base", &bases.collect::<Vec<f64>>())?,
        ])
    }

    /// The model that a checkpoint holds, of so many features and scores.
    pub(crate) fn restored(
        checkpoint: &Checkpoint,
        features: usize,
        classes: Vec<String>,
    ) -> Result<Self, Failure> {
        let nodes = Nodes {
            feature: checkpoint.load("feature")?.to_vec()?,
            threshold: checkpoint.load("threshold")?.to_vec()?,
            missing_left: checkpoint.load("missing_left")?.to_vec()?,
            left: checkpoint.load("left")?.to_vec()?,
            right: checkpoint.load("right")?.to_vec()?,
            value: checkpoint.load("value")?.to_vec()?,
            gain: checkpoint.load("gain")?.to_vec()?,
            root: checkpoint.load("root")?.to_vec()?,
        };
        let bases: Vec<f64> = checkpoint.load("base")?.to_vec()?;
        let scores = if classes.len() > 2 { classes.len() } else { 1 };
        let trees = nodes.trees(features);
        let trees = trees.filter(|trees| bases.len() == scores && trees.len() % scores == 0);
        let trees = trees.ok_or_else(|| {
            let id = checkpoint.model_id();
            Failure::failed(format!("model {id} holds no trees of {features} features"))
        })?;
        let (mean, base) = if classes.is_empty() {
            (bases[0], vec![0.0])
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "each was an f32")]
            let bases = bases.iter().map(|&base| base as f32);
            (0.0, bases.collect())
        };
        Ok(Self {
            trees,
            base,
            mean,
            classes,
        })
    }
}

impl Nodes {
    fn of(trees: &[Tree]) -> Self {
        let mut nodes = Self::default();
        let place = |place: usize| i32::try_from(place).unwrap_or(i32::MAX);
        for tree in trees {
            let root = place(nodes.feature.len());
            nodes.root.push(root);
            for node in &tree.nodes {
                let (split, value) = match node {
                    Node::Split(split) => (Some(split), 0.0),
                    Node::Leaf(value) => (None, *value),
                };
                let child = |place: u32| root.saturating_add_unsigned(place);
                nodes.value.push(value);
                let feature = split.map(|split| place(split.feature as usize));
                nodes.feature.push(feature.unwrap_or(-1));
                nodes
                    .threshold
                    .push(split.map_or(0.0, |split| split.threshold));
                nodes
                    .missing_left
                    .push(split.is_some_and(|split| split.missing_left));
                nodes.left.push(split.map_or(-1, |split| child(split.left)));
                nodes
                    .right
                    .push(split.map_or(-1, |split| child(split.right)));
                nodes.gain.push(split.map_or(0.0, |split| split.gain));
            }
        }
        nodes
    }

    /// The trees; none when the nodes do not make trees of so many features.
    fn trees(&self, features: usize) -> Option<Vec<Tree>> {
        let count = self.feature.len();
        let lengths = [
            self.threshold.len(),
            self.missing_left.len(),
            self.left.len(),
            self.right.len(),
            self.value.len(),
            self.gain.len(),
        ];
        if lengths != [count; 6] {
            return None;
        }
        let ends = self
            .root
            .iter()
            .skip(1)
            .map(|&root| usize::try_from(root).ok());
        let ends = ends.chain([Some(count)]);
        let trees = self.root.iter().zip(ends).map(|(&root, end)| {
            let range = usize::try_from(root).ok()?..end?;
            let fits = range.start < range.end
                && range.end <= count
                && range.len() < 2 * MAX_LEAVES as usize;
            let nodes = range.clone().map(|place| {
                if self.feature[place] < 0 {
                    return Some(Node::Leaf(self.value[place]));
                }
                let child = |child: i32| {
                    let child = usize::try_from(child).ok()?;
                    let fits = child > place && child < range.end;
                    fits.then(|| u32::try_from(child - range.start).ok())
                        .flatten()
                };
                let feature = u32::try_from(self.feature[place]).ok()?;
                ((feature as usize) < features).then_some(Node::Split(Split {
                    feature,
                    threshold: self.threshold[place],
                    // It is looked at by values only, never by bins.
                    bin: 0,
                    missing_left: self.missing_left[place],
                    left: child(self.left[place])?,
                    right: child(self.right[place])?,
                    gain: self.gain[place],
                }))
            });
            let nodes = fits
                .then(|| nodes.collect::<Option<Vec<Node>>>())
                .flatten()?;
            Some(Tree { nodes })
        });
        trees.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees() -> Vec<Tree> {
        let split = Node::Split(Split {
            feature: 1,
            threshold: 0.5,
            bin: 0,
            missing_left: true,
            left: 1,
            right: 2,
            gain: 3.0,
        });
        let stump = Tree {
            nodes: vec![split, Node::Leaf(-1.0), Node::Leaf(2.0)],
        };
        let leaf = Tree {
            nodes: vec![Node::Leaf(4.0)],
        };
        vec![stump.clone(), leaf, stump]
    }

    #[test]
    fn trees_read_back_as_they_were_written() {
        let nodes = Nodes::of(&trees());
        assert_eq!(nodes.left, [1, -1, -1, -1, 5, -1, -1]);
        assert_eq!(nodes.root, [0, 3, 4]);
        assert_eq!(nodes.trees(2), Some(trees()));
    }

    #[test]
    fn nodes_that_make_no_trees_are_refused() {
        let damaged = |damage: fn(&mut Nodes)| {
            let mut nodes = Nodes::of(&trees());
            damage(&mut nodes);
            nodes.trees(2)
        };
        assert_eq!(damaged(|nodes| nodes.left[0] = 0), None);
        assert_eq!(damaged(|nodes| nodes.right[0] = 3), None);
        assert_eq!(damaged(|nodes| nodes.feature[0] = 2), None);
        assert_eq!(damaged(|nodes| nodes.root[1] = -3), None);
        assert_eq!(damaged(|nodes| nodes.root[2] = 9), None);
        assert_eq!(damaged(|nodes| nodes.gain.clear()), None);
    }

    #[test]
    fn a_rows_score_is_the_sum_of_its_leaves() {
        let mut model = Model {
            trees: trees(),
            base: vec![10.0],
            mean: 0.0,
            classes: Vec::new(),
        };
        let scores = |model: &Model, row: &[f32]| model.scores(row).collect::<Vec<f32>>();
        assert_eq!(scores(&model, &[0.0, 0.5]), [10.0 - 1.0 + 4.0 - 1.0]);
        assert_eq!(scores(&model, &[0.0, f32::NAN]), [12.0]);
        model.trees.push(model.trees[1].clone());
        model.base.push(20.0);
        assert_eq!(scores(&model, &[0.0, 0.6]), [14.0, 28.0]);
        assert_eq!(model.importance(2), [0.0, 1.0]);
    }
}
