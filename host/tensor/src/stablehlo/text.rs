//! Writes StableHLO, the portable operations of XLA, as MLIR text: one method per
//! operation, values with their types, and nothing of what programs mean.
//!
//! The syntax follows "StableHLO Specification" of the OpenXLA project. Operations with
//! regions or many attributes are written in MLIR's generic form, which changes least.

use std::fmt::{Display, Write};

use crate::ir::Literal;
use crate::shape::TensorType;
use crate::{DType, ProgramError};

/// Element types: those of programs, and one that only this lowering needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Program(DType),
    /// Holds the product of two `u32`.
    U64,
}

impl Element {
    pub(super) const BOOL: Self = Self::Program(DType::Bool);
    pub(super) const I32: Self = Self::Program(DType::I32);
    pub(super) const I64: Self = Self::Program(DType::I64);
    pub(super) const U8: Self = Self::Program(DType::U8);
    pub(super) const U32: Self = Self::Program(DType::U32);

    fn name(self) -> &'static str {
        match self {
            Self::U64 => "ui64",
            Self::Program(dtype) => match dtype {
                DType::F32 => "f32",
                DType::F64 => "f64",
                DType::Bf16 => "bf16",
                DType::F16 => "f16",
                DType::I32 => "i32",
                DType::I64 => "i64",
                DType::U8 => "ui8",
                DType::U32 => "ui32",
                DType::Bool => "i1",
            },
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::Program(dtype) if dtype.is_float())
    }

    pub(super) fn is_signed(self) -> bool {
        self.is_float() || matches!(self, Self::I32 | Self::I64)
    }

    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U64 => 8,
            Self::Program(dtype) => dtype.size(),
        }
    }
}

impl From<DType> for Element {
    fn from(dtype: DType) -> Self {
        Self::Program(dtype)
    }
}

/// A value of the text: its name and type.
#[derive(Debug, Clone)]
pub(super) struct Val {
    name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
}

impl Val {
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn ty(&self) -> String {
        type_text(self.element, &self.shape)
    }
}

/// A function under construction.
#[derive(Debug, Default)]
pub(super) struct Text {
    body: String,
    names: usize,
}

/// How a convolution or a window moves over its operand, per axis.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub(super) size: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) padding: Vec<[i64; 2]>,
    /// Between the elements of the operand.
    pub(super) base_dilation: Vec<usize>,
    /// Between the elements of the window.
    pub(super) dilation: Vec<usize>,
}

/// The axes of a gather or scatter, in the terms of the specification.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// Axes of the result (updates) that lie in a slice.
    pub(super) offset: Vec<usize>,
    /// Axes of the operand that a slice has not.
    pub(super) collapsed: Vec<usize>,
    pub(super) operand_batch: Vec<usize>,
    pub(super) index_batch: Vec<usize>,
    /// Axes of the operand that an index vector names.
    pub(super) map: Vec<usize>,
    /// Axis of the indices that holds index vectors.
    pub(super) vector: usize,
}

impl Text {
    /// A new name, for an argument or a result.
    fn name(&mut self) -> String {
        let name = format!("%{}", self.names);
        self.names += 1;
        name
    }

    pub(super) fn argument(&mut self, ty: TensorType) -> Val {
        let name = self.name();
        named(name, ty.dtype.into(), &ty.shape)
    }

    /// How many values there are.
    pub(super) fn values(&self) -> usize {
        self.names
    }

    /// One line with one result.
    fn line(&mut self, element: Element, shape: &[usize], right: impl Display) -> Val {
        let name = self.name();
        self.push(format_args!("{name} = {right}"));
        named(name, element, shape)
    }

    fn push(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "    {line}");
    }

    /// The whole module: `arguments`, each with the result it may share memory with, and
    /// `results`.
    pub(super) fn module(self, arguments: &[(Val, Option<usize>)], results: &[Val]) -> String {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|(argument, alias)| {
                let alias = alias.map_or_else(String::new, |result| {
                    format!(" {{tf.aliasing_output = {result} : i32}}")
                });
                format!("{}: {}{alias}", argument.name, argument.ty())
            })
            .collect();
        let end = if results.is_empty() {
            "func.return".to_owned()
        } else {
            format!("func.return {} : {}", names(results), types(results))
        };
        format!(
            "module @program {{\n  func.func public @main({}) -> ({}) {{\n{}    {end}\n  }}\n}}\n",
            arguments.join(", "),
            types(results),
            self.body,
        )
    }

    /// A constant whose elements are all the same, given as text.
    fn splat(&mut self, element: Element, shape: &[usize], value: &str) -> Val {
        let ty = type_text(element, shape);
        self.line(
            element,
            shape,
            format_args!("stablehlo.constant dense<{value}> : {ty}"),
        )
    }

    pub(super) fn empty(&mut self, element: Element, shape: &[usize]) -> Val {
        self.splat(element, shape, "")
    }

    pub(super) fn fill(&mut self, literal: Literal, shape: &[usize]) -> Val {
        let element = Element::from(literal.dtype);
        let bits = u64::from_le_bytes(literal.bytes);
        let text = match literal.dtype {
            dtype if dtype.is_float() => format!("0x{bits:0width$X}", width = 2 * dtype.size()),
            DType::Bool => (bits != 0).to_string(),
            DType::I32 => i32::from_le_bytes(first(&literal.bytes)).to_string(),
            DType::I64 => i64::from_le_bytes(literal.bytes).to_string(),
            _ => bits.to_string(),
        };
        self.splat(element, shape, &text)
    }

    /// Elements as they lie in memory.
    pub(super) fn data(&mut self, element: Element, shape: &[usize], bytes: &[u8]) -> Val {
        if bytes.is_empty() {
            return self.empty(element, shape);
        }
        if element == Element::BOOL {
            // Whether flags are packed into bits depends on MLIR's age; bytes are bytes.
            let bytes = self.data(Element::U8, shape, bytes);
            let zero = self.integer(Element::U8, shape, 0);
            return self.compare("NE", &bytes, &zero);
        }
        let mut hex = String::with_capacity(2 * bytes.len() + 4);
        hex.push_str("\"0x");
        for byte in bytes {
            let _ = write!(hex, "{byte:02X}");
        }
        hex.push('"');
        self.splat(element, shape, &hex)
    }

    /// An integer, or for a float element its nearest number.
    #[expect(
        clippy::cast_precision_loss,
        reason = "callers pass numbers that the element type can hold or rounds"
    )]
    pub(super) fn integer(&mut self, element: Element, shape: &[usize], value: i64) -> Val {
        if element.is_float() {
            return self.number(element, shape, value as f64);
        }
        self.splat(element, shape, &value.to_string())
    }

    pub(super) fn number(&mut self, element: Element, shape: &[usize], value: f64) -> Val {
        let text = if value.is_finite() {
            // Scientific notation has a point only when it needs one, and MLIR insists.
            let text = format!("{value:e}");
            if text.contains('.') {
                text
            } else {
                text.replace('e', ".0e")
            }
        } else {
            float_bits(element, value)
        };
        self.splat(element, shape, &text)
    }

    pub(super) fn flag(&mut self, shape: &[usize], value: bool) -> Val {
        self.splat(Element::BOOL, shape, if value { "true" } else { "false" })
    }

    /// What every other number of the type is at least.
    pub(super) fn lowest(&mut self, element: Element, shape: &[usize]) -> Val {
        match element {
            Element::I32 => self.integer(element, shape, i64::from(i32::MIN)),
            Element::I64 => self.integer(element, shape, i64::MIN),
            _ if element.is_float() => self.number(element, shape, f64::NEG_INFINITY),
            _ => self.integer(element, shape, 0),
        }
    }

    /// What every other number of the type is at most.
    pub(super) fn highest(&mut self, element: Element, shape: &[usize]) -> Val {
        match element {
            Element::I32 => self.integer(element, shape, i64::from(i32::MAX)),
            Element::U32 => self.integer(element, shape, i64::from(u32::MAX)),
            Element::U8 => self.integer(element, shape, i64::from(u8::MAX)),
            _ if element.is_float() => self.number(element, shape, f64::INFINITY),
            _ => self.integer(element, shape, i64::MAX),
        }
    }

    pub(super) fn iota(&mut self, element: Element, shape: &[usize], axis: usize) -> Val {
        let ty = type_text(element, shape);
        self.line(
            element,
            shape,
            format_args!("stablehlo.iota dim = {axis} : {ty}"),
        )
    }

    /// An operation `stablehlo.name` on each element, whose result has its operands' type.
    pub(super) fn map(&mut self, name: &str, operands: &[&Val]) -> Val {
        let first = operands[0];
        let list = names(operands.iter().copied());
        let right = format!("stablehlo.{name} {list} : {}", first.ty());
        self.line(first.element, &first.shape, right)
    }

    /// The error function, which is not of StableHLO itself but of its client dialect.
    pub(super) fn erf(&mut self, x: &Val) -> Val {
        let right = format!("chlo.erf {} : {} -> {}", x.name, x.ty(), x.ty());
        self.line(x.element, &x.shape, right)
    }

    pub(super) fn is_finite(&mut self, x: &Val) -> Val {
        let ty = type_text(Element::BOOL, &x.shape);
        let right = format!("stablehlo.is_finite {} : ({}) -> {ty}", x.name, x.ty());
        self.line(Element::BOOL, &x.shape, right)
    }

    /// `direction` is `EQ`, `NE`, `LT`, `LE`, `GT` or `GE`.
    pub(super) fn compare(&mut self, direction: &str, a: &Val, b: &Val) -> Val {
        let kind = if a.element.is_float() {
            "FLOAT"
        } else if a.element.is_signed() {
            "SIGNED"
        } else {
            "UNSIGNED"
        };
        let (ty, result) = (a.ty(), type_text(Element::BOOL, &a.shape));
        let (a_name, b_name) = (&a.name, &b.name);
        let right = format!(
            "stablehlo.compare {direction}, {a_name}, {b_name}, {kind} : ({ty}, {ty}) -> {result}"
        );
        self.line(Element::BOOL, &a.shape, right)
    }

    pub(super) fn select(&mut self, condition: &Val, yes: &Val, no: &Val) -> Val {
        let list = names([condition, yes, no]);
        let right = format!("stablehlo.select {list} : {}, {}", condition.ty(), yes.ty());
        self.line(yes.element, &yes.shape, right)
    }

    /// StableHLO's own conversion: what it gives for a number that does not fit depends
    /// on the device.
    pub(super) fn convert(&mut self, x: &Val, element: Element) -> Val {
        if x.element == element {
            return x.clone();
        }
        self.reshaped("convert", x, element, &x.shape.clone(), "")
    }

    pub(super) fn reshape(&mut self, x: &Val, shape: &[usize]) -> Val {
        if x.shape == shape {
            return x.clone();
        }
        self.reshaped("reshape", x, x.element, shape, "")
    }

    pub(super) fn transpose(&mut self, x: &Val, permutation: &[usize]) -> Val {
        let shape: Vec<usize> = permutation.iter().map(|&axis| x.shape[axis]).collect();
        let rest = format!(", dims = {permutation:?}");
        self.reshaped("transpose", x, x.element, &shape, &rest)
    }

    /// Dimension `i` of `x` becomes dimension `axes[i]`.
    pub(super) fn broadcast(&mut self, x: &Val, shape: &[usize], axes: &[usize]) -> Val {
        let rest = format!(", dims = {axes:?}");
        self.reshaped("broadcast_in_dim", x, x.element, shape, &rest)
    }

    pub(super) fn reverse(&mut self, x: &Val, axes: &[usize]) -> Val {
        let right = format!("stablehlo.reverse {}, dims = {axes:?} : {}", x.name, x.ty());
        self.line(x.element, &x.shape, right)
    }

    pub(super) fn concatenate(&mut self, parts: &[Val], axis: usize) -> Val {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let element = parts[0].element;
        let (list, ty) = (names(parts), type_text(element, &shape));
        let right = format!(
            "stablehlo.concatenate {list}, dim = {axis} : ({}) -> {ty}",
            types(parts)
        );
        self.line(element, &shape, right)
    }

    pub(super) fn slice(
        &mut self,
        x: &Val,
        starts: &[usize],
        limits: &[usize],
        strides: &[usize],
    ) -> Val {
        let axes = starts.iter().zip(limits).zip(strides);
        let shape: Vec<usize> = axes
            .clone()
            .map(|((start, limit), stride)| (limit - start).div_ceil(*stride))
            .collect();
        let ranges: Vec<String> = axes
            .map(|((start, limit), stride)| format!("{start}:{limit}:{stride}"))
            .collect();
        let rest = format!(" [{}]", ranges.join(", "));
        self.reshaped("slice", x, x.element, &shape, &rest)
    }

    /// The elements from `start` to `limit` along one axis.
    pub(super) fn slice_axis(&mut self, x: &Val, axis: usize, start: usize, limit: usize) -> Val {
        let mut starts = vec![0; x.rank()];
        let mut limits = x.shape.clone();
        (starts[axis], limits[axis]) = (start, limit);
        self.slice(x, &starts, &limits, &vec![1; x.rank()])
    }

    pub(super) fn pad(
        &mut self,
        x: &Val,
        value: &Val,
        low: &[i64],
        high: &[i64],
        interior: &[usize],
        shape: &[usize],
    ) -> Val {
        let (list, ty) = (names([x, value]), type_text(x.element, shape));
        let right = format!(
            "stablehlo.pad {list}, low = {low:?}, high = {high:?}, interior = {interior:?} : \
             ({}) -> {ty}",
            types([x, value])
        );
        self.line(x.element, shape, right)
    }

    pub(super) fn dynamic_slice(&mut self, x: &Val, starts: &[Val], sizes: &[usize]) -> Val {
        let operands: Vec<&Val> = std::iter::once(x).chain(starts).collect();
        let list = names(operands.iter().copied());
        let ty = type_text(x.element, sizes);
        let right = format!(
            "stablehlo.dynamic_slice {list}, sizes = {sizes:?} : ({}) -> {ty}",
            types(operands)
        );
        self.line(x.element, sizes, right)
    }

    pub(super) fn dynamic_update_slice(&mut self, x: &Val, update: &Val, starts: &[Val]) -> Val {
        let operands: Vec<&Val> = [x, update].into_iter().chain(starts).collect();
        let list = names(operands.iter().copied());
        let right = format!(
            "stablehlo.dynamic_update_slice {list} : ({}) -> {}",
            types(operands),
            x.ty()
        );
        self.line(x.element, &x.shape, right)
    }

    /// Combines all elements along `axes` by `stablehlo.name`, beginning with `initial`.
    pub(super) fn reduce(&mut self, name: &str, x: &Val, initial: &Val, axes: &[usize]) -> Val {
        let shape: Vec<usize> = (0..x.rank())
            .filter(|axis| !axes.contains(axis))
            .map(|axis| x.shape[axis])
            .collect();
        let ty = type_text(x.element, &shape);
        let right = format!(
            "stablehlo.reduce({} init: {}) applies stablehlo.{name} across dimensions = {axes:?} : \
             ({}) -> {ty}",
            x.name,
            initial.name,
            types([x, initial])
        );
        self.line(x.element, &shape, right)
    }

    /// Accumulates in the type of `element`, which the result has. `axes` are the batch
    /// and contracted axes of the left operand, then of the right.
    pub(super) fn dot(
        &mut self,
        a: &Val,
        b: &Val,
        batch: [&[usize]; 2],
        contract: [&[usize]; 2],
        element: Element,
    ) -> Val {
        let free = |x: &Val, side: usize| -> Vec<usize> {
            (0..x.rank())
                .filter(|axis| !batch[side].contains(axis) && !contract[side].contains(axis))
                .map(|axis| x.shape[axis])
                .collect()
        };
        let mut shape: Vec<usize> = batch[0].iter().map(|&axis| a.shape[axis]).collect();
        shape.extend(free(a, 0));
        shape.extend(free(b, 1));
        let ty = type_text(element, &shape);
        let right = format!(
            "stablehlo.dot_general {}, batching_dims = {:?} x {:?}, contracting_dims = {:?} x {:?}, \
             precision = [HIGHEST, HIGHEST] : ({}) -> {ty}",
            names([a, b]),
            batch[0],
            batch[1],
            contract[0],
            contract[1],
            types([a, b])
        );
        self.line(element, &shape, right)
    }

    pub(super) fn gather(
        &mut self,
        x: &Val,
        indices: &Val,
        axes: &Indexed,
        sizes: &[usize],
        shape: &[usize],
    ) -> Val {
        let Indexed {
            offset,
            collapsed,
            operand_batch,
            index_batch,
            map,
            vector,
        } = axes;
        let ty = type_text(x.element, shape);
        let right = format!(
            "\"stablehlo.gather\"({}) <{{dimension_numbers = #stablehlo.gather<\
             offset_dims = {offset:?}, collapsed_slice_dims = {collapsed:?}, \
             operand_batching_dims = {operand_batch:?}, \
             start_indices_batching_dims = {index_batch:?}, start_index_map = {map:?}, \
             index_vector_dim = {vector}>, indices_are_sorted = false, slice_sizes = {}}}> : \
             ({}) -> {ty}",
            names([x, indices]),
            array(sizes),
            types([x, indices])
        );
        self.line(x.element, shape, right)
    }

    /// Combines `updates` into `x` by `stablehlo.name`, or writes them over it when there
    /// is no name. An index out of range changes nothing.
    pub(super) fn scatter(
        &mut self,
        name: Option<&str>,
        x: &Val,
        indices: &Val,
        updates: &Val,
        axes: &Indexed,
    ) -> Val {
        let Indexed {
            offset,
            collapsed,
            operand_batch,
            index_batch,
            map,
            vector,
        } = axes;
        let operands = [x, indices, updates];
        let right = format!(
            "\"stablehlo.scatter\"({}) <{{scatter_dimension_numbers = #stablehlo.scatter<\
             update_window_dims = {offset:?}, inserted_window_dims = {collapsed:?}, \
             input_batching_dims = {operand_batch:?}, \
             scatter_indices_batching_dims = {index_batch:?}, \
             scatter_dims_to_operand_dims = {map:?}, index_vector_dim = {vector}>, \
             indices_are_sorted = false, unique_indices = false}}> ({{",
            names(operands)
        );
        let result = self.line(x.element, &x.shape, right);
        match name {
            Some(name) => self.combiner(name, x.element),
            None => {
                let [old, new] = [(); 2].map(|()| self.block_argument(x.element, &[]));
                self.block(&[&old, &new]);
                self.end_block(&[new]);
            }
        }
        self.push(format_args!("}}) : ({}) -> {}", types(operands), x.ty()));
        result
    }

    /// Slides a window over `x` and combines what it covers; outside of `x` is `initial`.
    pub(super) fn reduce_window(
        &mut self,
        name: &str,
        x: &Val,
        initial: &Val,
        window: &Window,
        shape: &[usize],
    ) -> Val {
        let right = format!(
            "\"stablehlo.reduce_window\"({}) {} ({{",
            names([x, initial]),
            window_attributes(window)
        );
        let result = self.line(x.element, shape, right);
        self.combiner(name, x.element);
        let ty = type_text(x.element, shape);
        self.push(format_args!("}}) : ({}) -> {ty}", types([x, initial])));
        result
    }

    /// The same for pairs; `combine` writes how two of them become one.
    pub(super) fn reduce_window_pairs(
        &mut self,
        x: [&Val; 2],
        initial: [&Val; 2],
        window: &Window,
        shape: &[usize],
        combine: impl FnOnce(&mut Self, [&Val; 2], [&Val; 2]) -> [Val; 2],
    ) -> [Val; 2] {
        let operands = [x[0], x[1], initial[0], initial[1]];
        let name = self.name();
        self.push(format_args!(
            "{name}:2 = \"stablehlo.reduce_window\"({}) {} ({{",
            names(operands),
            window_attributes(window)
        ));
        let [a, b, c, d] = [x[0], x[1], x[0], x[1]].map(|x| self.block_argument(x.element, &[]));
        self.block(&[&a, &b, &c, &d]);
        let results = combine(self, [&a, &b], [&c, &d]);
        self.end_block(&results);
        let [first, second] = x.map(|x| type_text(x.element, shape));
        self.push(format_args!(
            "}}) : ({}) -> ({first}, {second})",
            types(operands)
        ));
        [
            named(format!("{name}#0"), x[0].element, shape),
            named(format!("{name}#1"), x[1].element, shape),
        ]
    }

    /// Sorts pairs along `axis`, keeping the order of equals. `before` writes whether the
    /// first of two keys comes before the second.
    pub(super) fn sort_pairs(
        &mut self,
        keys: &Val,
        values: &Val,
        axis: usize,
        before: impl FnOnce(&mut Self, &Val, &Val) -> Val,
    ) -> [Val; 2] {
        let name = self.name();
        self.push(format_args!(
            "{name}:2 = \"stablehlo.sort\"({}) <{{dimension = {axis} : i64, is_stable = true}}> ({{",
            names([keys, values])
        ));
        let [a, b, c, d] =
            [keys, keys, values, values].map(|x| self.block_argument(x.element, &[]));
        self.block(&[&a, &b, &c, &d]);
        let before = before(self, &a, &b);
        self.end_block(&[before]);
        let list = types([keys, values]);
        self.push(format_args!("}}) : ({list}) -> ({list})"));
        [
            named(format!("{name}#0"), keys.element, &keys.shape),
            named(format!("{name}#1"), values.element, &values.shape),
        ]
    }

    /// A convolution with `dimensions` as in `[b, f, 0]x[o, i, 0]->[b, f, 0]`, in `groups`
    /// of features, or of batches when `by_batch`.
    #[expect(clippy::too_many_arguments, reason = "a convolution has as many")]
    pub(super) fn convolution(
        &mut self,
        x: &Val,
        kernel: &Val,
        dimensions: &str,
        window: &Window,
        (groups, by_batch): (usize, bool),
        element: Element,
        shape: &[usize],
    ) -> Val {
        let (features, batches) = if by_batch { (1, groups) } else { (groups, 1) };
        let ty = type_text(element, shape);
        let right = format!(
            "\"stablehlo.convolution\"({}) <{{batch_group_count = {batches} : i64, \
             dimension_numbers = #stablehlo.conv<{dimensions}>, \
             feature_group_count = {features} : i64, lhs_dilation = {}, padding = {}, \
             precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>], \
             rhs_dilation = {}, window_strides = {}}}> : ({}) -> {ty}",
            names([x, kernel]),
            array(&window.base_dilation),
            padding(&window.padding),
            array(&window.dilation),
            array(&window.strides),
            types([x, kernel])
        );
        self.line(element, shape, right)
    }

    /// Repeats `step` on `carried` while `condition` holds.
    pub(super) fn repeat(
        &mut self,
        carried: &[Val],
        condition: impl FnOnce(&mut Self, &[Val]) -> Result<Val, ProgramError>,
        step: impl FnOnce(&mut Self, &[Val]) -> Result<Vec<Val>, ProgramError>,
    ) -> Result<Vec<Val>, ProgramError> {
        let name = self.name();
        let count = carried.len();
        self.push(format_args!(
            "{name}:{count} = \"stablehlo.while\"({}) ({{",
            names(carried)
        ));
        let arguments = self.block_arguments(carried);
        let goes_on = condition(self, &arguments)?;
        self.end_block(&[goes_on]);
        self.push("}, {");
        let arguments = self.block_arguments(carried);
        let next = step(self, &arguments)?;
        self.end_block(&next);
        let list = types(carried);
        self.push(format_args!("}}) : ({list}) -> ({list})"));
        Ok(carried
            .iter()
            .enumerate()
            .map(|(place, x)| named(format!("{name}#{place}"), x.element, &x.shape))
            .collect())
    }

    /// A region that combines two scalars.
    fn combiner(&mut self, name: &str, element: Element) {
        let a = self.block_argument(element, &[]);
        let b = self.block_argument(element, &[]);
        self.block(&[&a, &b]);
        let result = self.map(name, &[&a, &b]);
        self.end_block(&[result]);
    }

    fn block_argument(&mut self, element: Element, shape: &[usize]) -> Val {
        let name = self.name();
        named(name, element, shape)
    }

    fn block_arguments(&mut self, like: &[Val]) -> Vec<Val> {
        let arguments: Vec<Val> = like
            .iter()
            .map(|x| self.block_argument(x.element, &x.shape))
            .collect();
        self.block(&arguments.iter().collect::<Vec<_>>());
        arguments
    }

    fn block(&mut self, arguments: &[&Val]) {
        let list: Vec<String> = arguments
            .iter()
            .map(|argument| format!("{}: {}", argument.name, argument.ty()))
            .collect();
        self.push(format_args!("^bb0({}):", list.join(", ")));
    }

    fn end_block(&mut self, results: &[Val]) {
        self.push(format_args!(
            "stablehlo.return {} : {}",
            names(results),
            types(results)
        ));
    }

    /// An operation of one operand, `rest` behind it, whose type is written out.
    fn reshaped(
        &mut self,
        name: &str,
        x: &Val,
        element: Element,
        shape: &[usize],
        rest: &str,
    ) -> Val {
        let ty = type_text(element, shape);
        let right = format!("stablehlo.{name} {}{rest} : ({}) -> {ty}", x.name, x.ty());
        self.line(element, shape, right)
    }
}

fn named(name: String, element: Element, shape: &[usize]) -> Val {
    Val {
        name,
        element,
        shape: shape.to_vec(),
    }
}

fn type_text(element: Element, shape: &[usize]) -> String {
    let mut text = "tensor<".to_owned();
    for dimension in shape {
        let _ = write!(text, "{dimension}x");
    }
    text.push_str(element.name());
    text.push('>');
    text
}

fn names<'a>(values: impl IntoIterator<Item = &'a Val>) -> String {
    let names: Vec<&str> = values
        .into_iter()
        .map(|value| value.name.as_str())
        .collect();
    names.join(", ")
}

fn types<'a>(values: impl IntoIterator<Item = &'a Val>) -> String {
    let types: Vec<String> = values.into_iter().map(Val::ty).collect();
    types.join(", ")
}

fn array(values: &[usize]) -> String {
    let list: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("array<i64: {}>", list.join(", "))
}

fn padding(padding: &[[i64; 2]]) -> String {
    format!("dense<{padding:?}> : tensor<{}x2xi64>", padding.len())
}

fn window_attributes(window: &Window) -> String {
    format!(
        "<{{base_dilations = {}, padding = {}, window_dilations = {}, window_dimensions = {}, \
         window_strides = {}}}>",
        array(&window.base_dilation),
        padding(&window.padding),
        array(&window.dilation),
        array(&window.size),
        array(&window.strides)
    )
}

/// An infinity in the bits of the element type.
fn float_bits(element: Element, value: f64) -> String {
    let sign = u64::from(value.is_sign_negative());
    let Element::Program(dtype) = element else {
        return String::new();
    };
    match dtype {
        DType::F64 => format!("0x{:016X}", sign << 63 | 0x7FF0_0000_0000_0000),
        DType::Bf16 => format!("0x{:04X}", sign << 15 | 0x7F80),
        DType::F16 => format!("0x{:04X}", sign << 15 | 0x7C00),
        _ => format!("0x{:08X}", sign << 31 | 0x7F80_0000),
    }
}

fn first<const N: usize>(bytes: &[u8; 8]) -> [u8; N] {
    std::array::from_fn(|place| bytes[place])
}
