//! Augmentation: what is the same for every key is compared with the case, what is not must be
//! one of the changes that there are.

use std::collections::BTreeSet;

use serde_json::Value;
use trainshed_sdk::augment::{self, Moments};
use trainshed_sdk::graph::{Var, evaluate};
use trainshed_sdk::{Failure, Tensor};

use crate::arrays::{compare, compare_all, narrowed, numbers, tensor};

pub(crate) fn check(case: &Value) -> Result<(), Failure> {
    match case["name"].as_str() {
        Some("images") => {
            let bytes: Vec<u8> = serde_json::from_value(case["images"]["values"].clone())?;
            let shape = tensor(&case["images"])?.shape();
            let images = Tensor::from_slice(&shape, &bytes)?;
            let input = evaluate(&[&images], |_, given| vec![augment::image_input(&given[0])])?;
            compare("the input", &input[0], &case["input"])
        }
        Some("moments" | "moments of large integers") => {
            let rows: Vec<u32> = serde_json::from_value(case["rows"].clone())?;
            let moments = Moments::of(&tensor(&case["data"])?, &rows)?;
            let wide = |numbers: &[f32]| numbers.iter().copied().map(f64::from).collect::<Vec<_>>();
            let mean = numbers(&case["mean"]["values"])?;
            let deviation = numbers(&case["deviation"]["values"])?;
            compare_all("the mean", &wide(&moments.mean), &mean)?;
            compare_all("the deviation", &wide(&moments.deviation), &deviation)?;
            if case["x"].is_null() {
                return Ok(());
            }
            let x = tensor(&case["x"])?;
            let found = evaluate(&[&x], |_, given| vec![moments.standardize(&given[0], 2)])?;
            compare("what is standardized", &found[0], &case["standardized"])
        }
        _ => check_changes(case),
    }
}

fn check_changes(case: &Value) -> Result<(), Failure> {
    let images = tensor(&case["images"])?;
    let changed = |step: u32, change: &dyn Fn(&Var, &Var) -> Var| {
        let key = Tensor::from_slice(&[2], &[7, step])?;
        let mut found = evaluate(&[&images, &key], |_, given| {
            vec![change(&given[0], &given[1])]
        })?;
        Ok::<Tensor, Failure>(found.remove(0))
    };
    let flip = |probability| move |x: &Var, key: &Var| augment::random_flip(x, key, 0, probability);
    compare(
        "what is mirrored",
        &changed(0, &flip(1.0))?,
        &case["mirrored"],
    )?;
    compare("what is not", &changed(0, &flip(0.0))?, &case["images"])?;

    let original = narrowed(&case["images"]["values"])?;
    let mirrored = narrowed(&case["mirrored"]["values"])?;
    let images_of =
        |elements: &[f32]| -> Vec<Vec<f32>> { elements.chunks(12).map(<[f32]>::to_vec).collect() };
    let candidates = images_of(&original).into_iter().zip(images_of(&mirrored));
    let candidates = candidates.map(|(original, mirrored)| vec![original, mirrored]);
    let flipped = changed(0, &flip(0.5))?.to_vec::<f32>()?;
    check_choices(
        "mirroring",
        &images_of(&flipped),
        &candidates.collect::<Vec<_>>(),
        2,
    )?;

    let padded = narrowed(&case["padded"]["values"])?;
    let crop = |x: &Var, key: &Var| augment::random_crop(x, key, 0, 1);
    let cropped = changed(0, &crop)?.to_vec::<f32>()?;
    let windows = padded.chunks(30).map(|image| {
        let window = |place: usize| {
            let (top, left) = (place / 3, place % 3);
            let row = |row: usize| image[(top + row) * 6 + left..][..4].to_vec();
            (0..3).flat_map(row).collect::<Vec<f32>>()
        };
        (0..9).map(window).collect::<Vec<_>>()
    });
    check_choices(
        "cropping",
        &images_of(&cropped),
        &windows.collect::<Vec<_>>(),
        9,
    )?;

    let noise = |x: &Var, key: &Var| augment::noise(x, key, 0, 0.5);
    let (once, again) = (changed(1, &noise)?, changed(1, &noise)?);
    let (once, again) = (once.to_vec::<f32>()?, again.to_vec::<f32>()?);
    let other = changed(2, &noise)?.to_vec::<f32>()?;
    if once != again || once == other {
        return Err(Failure::failed("noise does not follow from the key"));
    }
    let squares = once
        .iter()
        .zip(&original)
        .map(|(one, other)| (one - other).powi(2));
    let count = f32::from(u16::try_from(original.len())?);
    let deviation = (squares.sum::<f32>() / count).sqrt();
    if !(0.4..0.6).contains(&deviation) {
        return Err(Failure::failed(format!(
            "noise deviates by {deviation} instead of 0.5"
        )));
    }
    Ok(())
}

/// Fails when an image is none of its candidates, or fewer than half of the places among them
/// are ever taken.
fn check_choices(
    what: &str,
    found: &[Vec<f32>],
    candidates: &[Vec<Vec<f32>>],
    places: usize,
) -> Result<(), Failure> {
    let mut taken = BTreeSet::new();
    for (image, candidates) in found.iter().zip(candidates) {
        let place = candidates.iter().position(|candidate| candidate == image);
        let place = place
            .ok_or_else(|| Failure::failed(format!("{what} gives {image:?}, which it cannot")))?;
        taken.insert(place);
    }
    if found.len() != candidates.len() || taken.len() * 2 <= places {
        return Err(Failure::failed(format!("{what} takes only {taken:?}")));
    }
    Ok(())
}
