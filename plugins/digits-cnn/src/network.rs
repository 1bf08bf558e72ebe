//! The network: blocks of convolution, batch norm and ReLU, some of them halved by a pool.

use trainshed_sdk::augment;
use trainshed_sdk::graph::Var;
use trainshed_sdk::nn::{
    Activation, BatchNorm, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Measured, Module, Scope,
    Sequential, classification,
};

use crate::settings::Settings;

/// What a picture is and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// The side of the square pictures, in pixels.
    pub(crate) side: usize,
    /// What pixels are divided by.
    pub(crate) scale: f64,
    pub(crate) classes: usize,
    /// How many channels each block makes.
    pub(crate) channels: Vec<usize>,
    pub(crate) dropout: f64,
    /// By how many pixels training pictures are moved at most.
    pub(crate) shift: u32,
}

impl Network {
    pub(crate) fn new(side: usize, scale: f64, classes: usize, settings: &Settings) -> Self {
        Self {
            side,
            scale,
            classes,
            channels: settings.channels.clone(),
            dropout: settings.dropout,
            shift: settings.shift,
        }
    }

    /// What becomes of a batch of pictures `[batch, side * side]` and their labels.
    pub(crate) fn measured(&self, scope: &Scope, pixels: &Var, labels: &Var) -> Measured {
        let rows = pixels.shape()[0];
        let mut x = pixels.reshape(&[rows, 1, self.side, self.side]) * (1.0 / self.scale);
        if self.shift > 0 && scope.is_training() {
            let key = scope.key();
            let stream = scope.graph().next_stream();
            // A crop takes a stream for each direction.
            scope.graph().next_stream();
            x = augment::random_crop(&x, &key, stream, self.shift);
        }
        classification(&self.layers(), scope, &x, labels)
    }

    /// Every block but the first halves the picture while its side is even.
    fn layers(&self) -> impl Module + use<> {
        let (mut inputs, mut side) = (1, self.side);
        let mut layers = Sequential::new();
        for (block, &outputs) in self.channels.iter().enumerate() {
            // Batch norm takes a bias away again.
            let convolution = Conv2d {
                padding: [1, 1],
                bias: false,
                ..Conv2d::new(inputs, outputs, 3)
            };
            layers = layers
                .named(&format!("conv{block}"), convolution)
                .named(&format!("norm{block}"), BatchNorm::new(outputs))
                .named(&format!("relu{block}"), Activation::Relu);
            if block > 0 && side % 2 == 0 {
                layers = layers.named(&format!("pool{block}"), MaxPool2d::new(2));
                side /= 2;
            }
            inputs = outputs;
        }
        let features = inputs * side * side;
        layers
            .named("flatten", Flatten)
            .named("dropout", Dropout { rate: self.dropout })
            .named("output", Linear::new(features, self.classes))
    }
}

#[cfg(test)]
mod tests {
    use trainshed_sdk::DType;
    use trainshed_sdk::graph::Graph;
    use trainshed_sdk::nn::Purpose;

    use super::*;

    #[test]
    fn every_block_but_the_first_halves_the_picture() {
        let network = Network::new(8, 16.0, 10, &Settings::default());
        let graph = Graph::new();
        let scope = Scope::new(&graph, Purpose::Train, DType::F32);
        let pixels = graph.input("pixels", DType::F32, &[32, 64]);
        let labels = graph.input("labels", DType::I32, &[32, 1]);

        let measured = network.measured(&scope, &pixels, &labels);
        graph.output(&measured.loss);

        graph.finish().unwrap();
        let (specs, _) = scope.states();
        let shape_of = |name: &str| {
            let spec = specs.iter().find(|spec| spec.name == name);
            spec.map(|spec| spec.shape.clone())
        };
        assert_eq!(shape_of("conv0.weight"), Some(vec![16, 1, 3, 3]));
        assert_eq!(shape_of("norm2.running_var"), Some(vec![64]));
        assert_eq!(shape_of("output.weight"), Some(vec![10, 64 * 2 * 2]));
        assert_eq!(measured.prediction.shape(), [32]);
    }

    #[test]
    fn pictures_of_an_odd_side_are_not_halved() {
        let settings = Settings {
            channels: vec![2, 3],
            shift: 0,
            ..Settings::default()
        };
        let network = Network::new(5, 1.0, 3, &settings);
        let graph = Graph::new();
        let scope = Scope::new(&graph, Purpose::Judge, DType::F32);
        let pixels = graph.input("pixels", DType::F32, &[4, 25]);
        let labels = graph.input("labels", DType::I32, &[4, 1]);
        let measured = network.measured(&scope, &pixels, &labels);
        graph.output(&measured.loss);
        graph.finish().unwrap();
        let (specs, _) = scope.states();
        let output = specs.iter().find(|spec| spec.name == "output.weight");
        assert_eq!(output.unwrap().shape, [3, 3 * 25]);
    }
}
