//! Plots: figures as [Plotly](https://plotly.com/javascript/) has them, made of plain numbers.
//!
//! A [`Figure`] begins with one of the constructors below and is named by
//! [`Figure::titled`] and [`Figure::axes`]; [`crate::Run::report_plot`] records it. Any other
//! figure is a [`Figure::raw`]. NaN and infinities become gaps.

use serde_json::{Map, Value, json};

/// A Plotly figure: traces and a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    data: Vec<Value>,
    layout: Map<String, Value>,
}

/// How the points of a scatter plot are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// As points.
    Points,
    /// Joined by lines.
    Lines,
    /// As points that are joined by lines.
    Both,
}

impl Marks {
    fn mode(self) -> &'static str {
        match self {
            Self::Points => "markers",
            Self::Lines => "lines",
            Self::Both => "lines+markers",
        }
    }
}

impl Figure {
    /// Any Plotly figure: its traces, and its layout, which is an object or null.
    pub fn raw(data: Vec<Value>, layout: Value) -> Self {
        let layout = match layout {
            Value::Object(layout) => layout,
            _ => Map::new(),
        };
        Self { data, layout }
    }

    /// Lines by name, over `x`.
    pub fn lines(x: &[f64], lines: &[(&str, &[f64])]) -> Self {
        let trace = |(name, y): &(&str, &[f64])| json!({"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y});
        Self::raw(lines.iter().map(trace).collect(), Value::Null)
    }

    /// Groups of points by name; a point is x and y.
    pub fn scatter_2d(groups: &[(&str, &[[f64; 2]])], marks: Marks) -> Self {
        let trace = |(name, points): &(&str, &[[f64; 2]])| {
            let axis = |axis: usize| points.iter().map(|point| point[axis]).collect::<Vec<_>>();
            json!({"type": "scatter", "mode": marks.mode(), "name": name,
                   "x": axis(0), "y": axis(1)})
        };
        Self::raw(groups.iter().map(trace).collect(), Value::Null)
    }

    /// Groups of points by name; a point is x, y and z.
    pub fn scatter_3d(groups: &[(&str, &[[f64; 3]])], marks: Marks) -> Self {
        let trace = |(name, points): &(&str, &[[f64; 3]])| {
            let axis = |axis: usize| points.iter().map(|point| point[axis]).collect::<Vec<_>>();
            json!({"type": "scatter3d", "mode": marks.mode(), "name": name,
                   "x": axis(0), "y": axis(1), "z": axis(2)})
        };
        Self::raw(groups.iter().map(trace).collect(), Value::Null)
    }

    /// How often values occur, in `bins` ranges of one width from the least to the greatest
    /// finite one. They are counted here, so that the figure stays small.
    pub fn histogram(values: &[f64], bins: usize) -> Self {
        let finite = values.iter().copied().filter(|value| value.is_finite());
        let (least, most) = finite.clone().fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), value| (least.min(value), most.max(value)),
        );
        let bins = bins.clamp(1, 10_000);
        #[expect(clippy::cast_precision_loss, reason = "at most ten thousand")]
        let width = ((most - least) / bins as f64).max(f64::MIN_POSITIVE);
        let mut counts = vec![0_u64; bins];
        for value in finite {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is cut to the number of bins"
            )]
            let bin = ((value - least) / width) as usize;
            counts[bin.min(bins - 1)] += 1;
        }
        if most < least {
            return Self::bars(&[], &[]);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most ten thousand")]
        let middles: Vec<f64> = (0..bins)
            .map(|bin| least + (bin as f64 + 0.5) * width)
            .collect();
        let trace = json!({"type": "bar", "x": middles, "y": counts, "width": width});
        Self::raw(vec![trace], json!({"bargap": 0}))
    }

    /// Bars: vectors by name, with a label for each place.
    pub fn bars(labels: &[&str], vectors: &[(&str, &[f64])]) -> Self {
        let trace = |(name, values): &(&str, &[f64])| {
            if labels.is_empty() {
                json!({"type": "bar", "name": name, "y": values})
            } else {
                json!({"type": "bar", "name": name, "x": labels, "y": values})
            }
        };
        let layout = json!({"barmode": "group"});
        Self::raw(vectors.iter().map(trace).collect(), layout)
    }

    /// A confusion matrix: `counts[actual][predicted]`.
    pub fn confusion_matrix(labels: &[&str], counts: &[Vec<u64>]) -> Self {
        let trace = json!({
            "type": "heatmap", "x": labels, "y": labels, "z": counts,
            "texttemplate": "%{z}", "colorscale": "Blues",
        });
        let layout = json!({
            "xaxis": {"type": "category", "title": {"text": "predicted"}},
            "yaxis": {"type": "category", "title": {"text": "actual"}, "autorange": "reversed"},
        });
        Self::raw(vec![trace], layout)
    }

    /// A matrix as colours, row by row from the top.
    pub fn heatmap(rows: &[Vec<f64>]) -> Self {
        let layout = json!({"yaxis": {"autorange": "reversed"}});
        Self::raw(vec![json!({"type": "heatmap", "z": rows})], layout)
    }

    /// A surface: heights row by row.
    pub fn surface(rows: &[Vec<f64>]) -> Self {
        Self::raw(vec![json!({"type": "surface", "z": rows})], Value::Null)
    }

    /// A table: names of columns, and rows of texts or numbers.
    pub fn table(columns: &[&str], rows: &[Vec<Value>]) -> Self {
        let cells: Vec<Vec<Value>> = (0..columns.len())
            .map(|column| {
                let cell = |row: &Vec<Value>| row.get(column).cloned().unwrap_or_default();
                rows.iter().map(cell).collect()
            })
            .collect();
        let trace = json!({
            "type": "table", "header": {"values": columns}, "cells": {"values": cells},
        });
        Self::raw(vec![trace], Value::Null)
    }

    /// Writes a title above the figure.
    #[must_use]
    pub fn titled(mut self, title: &str) -> Self {
        self.layout
            .insert("title".to_owned(), json!({ "text": title }));
        self
    }

    /// Names the axes.
    #[must_use]
    pub fn axes(mut self, x: &str, y: &str) -> Self {
        for (axis, title) in [("xaxis", x), ("yaxis", y)] {
            let entry = self.layout.entry(axis).or_insert_with(|| json!({}));
            if let Value::Object(axis) = entry {
                axis.insert("title".to_owned(), json!({ "text": title }));
            }
        }
        self
    }

    /// The figure as JSON.
    pub fn to_json(&self) -> String {
        json!({"data": self.data, "layout": self.layout}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(figure: &Figure, expected: &Expect) {
        expected.assert_eq(&figure.to_json());
    }

    #[test]
    fn lines_have_gaps_where_there_is_no_number() {
        let figure = Figure::lines(&[0.0, 1.0], &[("loss", &[0.5, f64::NAN])]);
        check(
            &figure.titled("Loss").axes("epoch", "nats"),
            &expect![[
                r#"{"data":[{"mode":"lines","name":"loss","type":"scatter","x":[0.0,1.0],"y":[0.5,null]}],"layout":{"title":{"text":"Loss"},"xaxis":{"title":{"text":"epoch"}},"yaxis":{"title":{"text":"nats"}}}}"#
            ]],
        );
    }

    #[test]
    fn a_histogram_counts_every_finite_value_once() {
        let values = [0.0, 0.1, 0.9, 1.0, f64::NAN, f64::INFINITY];
        check(
            &Figure::histogram(&values, 2),
            &expect![[
                r#"{"data":[{"type":"bar","width":0.5,"x":[0.25,0.75],"y":[2,2]}],"layout":{"bargap":0}}"#
            ]],
        );
        let same = Figure::histogram(&[3.0, 3.0], 4).to_json();
        assert!(same.contains(r#""y":[2,0,0,0]"#), "{same}");
        assert!(Figure::histogram(&[], 4).to_json().contains(r#""data":[]"#));
    }

    #[test]
    fn a_table_is_handed_over_column_by_column() {
        let rows = [vec![json!("a"), json!(1)], vec![json!("b")]];
        check(
            &Figure::table(&["name", "count"], &rows),
            &expect![[
                r#"{"data":[{"cells":{"values":[["a","b"],[1,null]]},"header":{"values":["name","count"]},"type":"table"}],"layout":{}}"#
            ]],
        );
    }

    #[test]
    fn every_kind_has_the_trace_that_plotly_knows() {
        let types = |figure: Figure| figure.data[0]["type"].as_str().map(str::to_owned);
        let flat: &[[f64; 2]] = &[[0.0, 1.0]];
        let deep: &[[f64; 3]] = &[[0.0, 1.0, 2.0]];
        let found = [
            types(Figure::scatter_2d(&[("a", flat)], Marks::Points)),
            types(Figure::scatter_3d(&[("a", deep)], Marks::Both)),
            types(Figure::bars(&["x"], &[("a", &[1.0])])),
            types(Figure::confusion_matrix(&["x"], &[vec![1]])),
            types(Figure::heatmap(&[vec![1.0]])),
            types(Figure::surface(&[vec![1.0]])),
        ];
        let found: Vec<String> = found.into_iter().flatten().collect();
        assert_eq!(
            found,
            [
                "scatter",
                "scatter3d",
                "bar",
                "heatmap",
                "heatmap",
                "surface"
            ]
        );
    }
}
