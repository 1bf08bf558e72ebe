//! Rules of convolutions and pools.

use super::{One, need_float};
use crate::DType;
use crate::check::Attributes;
use crate::ir::Op;
use crate::shape::{Dims, MAX_DIMENSION, TensorType};
use crate::window::{AveragePool, Convolution, Wanted, Window};

/// The most elements of a window: their offsets are listed when a program is compiled.
const MOST_WINDOW_ELEMENTS: usize = 1 << 16;

/// The operand that the attributes of a window are about: batch, channels, one or two
/// spatial axes.
fn need_spatial(operand: TensorType) -> Result<usize, String> {
    need_float(operand)?;
    match operand.shape.len() {
        rank @ (3 | 4) => Ok(rank - 2),
        rank => Err(format!(
            "an operand is {operand}, but it must have a batch dimension, a channel dimension \
             and one or two spatial dimensions, not {rank}"
        )),
    }
}

/// One number from `least` on per spatial axis.
fn per_axis(
    attributes: &mut Attributes<'_>,
    name: &str,
    count: usize,
    least: usize,
) -> Result<Dims, String> {
    let values = attributes.dims(name)?;
    if values.len() != count {
        return Err(format!(
            "attribute `{name}` is {values:?}, but it must have {count} entries"
        ));
    }
    match values
        .iter()
        .find(|&&value| value < least || value > MAX_DIMENSION)
    {
        Some(value) => Err(format!(
            "attribute `{name}` holds {value}, but it must be from {least} to {MAX_DIMENSION}"
        )),
        None => Ok(values),
    }
}

/// The attributes of a window of that size.
fn window(attributes: &mut Attributes<'_>, size: Dims, is_dilated: bool) -> Result<Window, String> {
    let rank = size.len();
    if let Some(axis) = size.iter().position(|&size| size == 0) {
        return Err(format!(
            "the window is {size:?}, but axis {axis} of it must have at least one element"
        ));
    }
    if size.product() > MOST_WINDOW_ELEMENTS {
        return Err(format!(
            "the window is {size:?}, but it may have at most {MOST_WINDOW_ELEMENTS} elements"
        ));
    }
    let padding = per_axis(attributes, "padding", 2 * rank, 0)?;
    Ok(Window {
        size,
        strides: per_axis(attributes, "strides", rank, 1)?,
        low: Dims::collect(padding.iter().copied().step_by(2)),
        high: Dims::collect(padding.iter().copied().skip(1).step_by(2)),
        dilation: if is_dilated {
            per_axis(attributes, "dilation", rank, 1)?
        } else {
            Dims::collect(std::iter::repeat_n(1, rank))
        },
    })
}

/// `convolution`, `convolution-transpose` and `convolution-kernel`.
pub(super) fn convolution(
    wanted: Wanted,
    [first, second]: [TensorType; 2],
    attributes: &mut Attributes<'_>,
) -> One {
    let rank = need_spatial(first)?;
    need_float(second)?;
    if first.dtype != second.dtype || first.shape.len() != second.shape.len() {
        return Err(format!(
            "the operands are {first} and {second}, but they must have one element type and rank"
        ));
    }
    let groups = attributes.natural("groups")?;
    let size = match wanted {
        Wanted::Kernel => per_axis(attributes, "window", rank, 1)?,
        _ => Dims::collect(second.shape[2..].iter().copied()),
    };
    let window = window(attributes, size, true)?;
    let spatial = match wanted {
        Wanted::Operand => per_axis(attributes, "spatial", rank, 0)?,
        _ => Dims::collect(first.shape[2..].iter().copied()),
    };
    let places = window.places(&spatial);
    let with = |leading: [usize; 2], rest: &[usize]| {
        TensorType::new(first.dtype, &[&leading[..], rest].concat())
    };
    let divided = |what: &str, channels: usize| {
        if !channels.is_multiple_of(groups) || groups == 0 {
            return Err(format!(
                "attribute `groups` is {groups}, but it must divide the {channels} {what}"
            ));
        }
        Ok(channels / groups)
    };
    let ty = match wanted {
        Wanted::Result => {
            let channels = divided("channels of the operand", first.shape[1])?;
            divided("channels of the result", second.shape[0])?;
            if second.shape[1] != channels {
                return Err(format!(
                    "the kernel is {second}, but dimension 1 of it must be {channels}: \
                     the channels of {first} in each of {groups} groups"
                ));
            }
            with([first.shape[0], second.shape[0]], &places)?
        }
        Wanted::Operand => {
            let channels = second.shape[1].checked_mul(groups);
            let channels = channels.filter(|&channels| channels <= MAX_DIMENSION);
            let Some(channels) = channels else {
                return Err(format!(
                    "attribute `groups` is {groups}, which is too much for the kernel {second}"
                ));
            };
            divided("channels of the operand", second.shape[0])?;
            let expected = with([first.shape[0], second.shape[0]], &places)?;
            if first != expected {
                return Err(format!(
                    "the operand is {first}, but for this kernel and `spatial` it must be \
                     {expected}"
                ));
            }
            with([first.shape[0], channels], &spatial)?
        }
        Wanted::Kernel => {
            let channels = divided("channels of the operand", first.shape[1])?;
            divided("channels of the result", second.shape[1])?;
            let expected = with([first.shape[0], second.shape[1]], &places)?;
            if second != expected {
                return Err(format!(
                    "the operands are {first} and {second}, but for this window the second \
                     must be {expected}"
                ));
            }
            with([second.shape[1], channels], &size)?
        }
    };
    let convolution = Convolution {
        wanted,
        window,
        groups,
    };
    Ok((Op::Convolution(Box::new(convolution)), ty))
}

/// Values and positions.
pub(super) fn max_pool(
    x: TensorType,
    attributes: &mut Attributes<'_>,
) -> Result<(Op, [TensorType; 2]), String> {
    let rank = need_spatial(x)?;
    let size = per_axis(attributes, "window", rank, 1)?;
    let window = window(attributes, size, true)?;
    let spatial = &x.shape[2..];
    let places = window.places(spatial);
    for axis in 0..rank {
        let (low, high, size) = (window.low[axis], window.high[axis], window.size[axis]);
        if low >= size || high >= size {
            return Err(format!(
                "the padding of spatial axis {axis} is [{low}, {high}], but it must be less than \
                 the window, {size}"
            ));
        }
        // Otherwise a window could lie around all elements without meeting one.
        let dilation = window.dilation[axis];
        if places[axis] > 0 && low + high > 0 && dilation > spatial[axis] {
            return Err(format!(
                "the dilation of spatial axis {axis} is {dilation}, but with padding it may be at \
                 most {}, the size of the axis",
                spatial[axis]
            ));
        }
    }
    let positions = Dims::collect(spatial.iter().copied()).product();
    if positions > MAX_DIMENSION {
        return Err(format!(
            "the spatial axes of {x} have {positions} elements, but an i32 counts at most \
             {MAX_DIMENSION}"
        ));
    }
    let shape = [&x.shape[..2], &*places].concat();
    let types = [
        TensorType::new(x.dtype, &shape)?,
        TensorType::new(DType::I32, &shape)?,
    ];
    Ok((Op::MaxPool(Box::new(window)), types))
}

/// `average-pool` and `average-pool-transpose`.
pub(super) fn average_pool(
    operand: TensorType,
    attributes: &mut Attributes<'_>,
    transposed: bool,
) -> One {
    let rank = need_spatial(operand)?;
    let size = per_axis(attributes, "window", rank, 1)?;
    let window = window(attributes, size, false)?;
    let count_padding = attributes.flag("count-padding")?;
    let with = |rest: &[usize]| {
        let shape = [&operand.shape[..2], rest].concat();
        TensorType::new(operand.dtype, &shape)
    };
    let ty = if transposed {
        let spatial = per_axis(attributes, "spatial", rank, 0)?;
        let expected = with(&window.places(&spatial))?;
        if operand != expected {
            return Err(format!(
                "the operand is {operand}, but for this window and `spatial` it must be {expected}"
            ));
        }
        with(&spatial)?
    } else {
        with(&window.places(&operand.shape[2..]))?
    };
    let pool = AveragePool {
        window,
        count_padding,
        transposed,
    };
    Ok((Op::AveragePool(Box::new(pool)), ty))
}
