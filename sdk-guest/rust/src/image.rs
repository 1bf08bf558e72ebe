//! Pictures for [`crate::Run::log_visualization`].

use crate::Failure;

/// Makes a PNG of `width` times `height` grey pixels, row by row from the top.
///
/// The smallest value becomes black and the largest white; NaN is black.
///
/// # Errors
/// When there are not `width * height` values, or a side is 0.
pub fn gray_png(values: &[f32], width: u32, height: u32) -> Result<Vec<u8>, Failure> {
    if values.len() as u64 != u64::from(width) * u64::from(height) {
        let found = values.len();
        return Err(Failure::failed(format!(
            "an image of {width} x {height} needs as many values, but there are {found}"
        )));
    }
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let low = finite().fold(f32::INFINITY, f32::min);
    let high = finite().fold(f32::NEG_INFINITY, f32::max);
    let scale = if high > low {
        255.0 / (high - low)
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and NaN becomes 0"
    )]
    let pixels: Vec<u8> = values
        .iter()
        .map(|value| ((value - low) * scale).round() as u8)
        .collect();

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_grey_between_black_and_white() {
        let bytes = gray_png(&[0.0, 4.0, 8.0, 16.0, f32::NAN, 2.0], 3, 2).unwrap();

        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(pixels, [0, 64, 128, 255, 0, 32]);
    }

    #[test]
    fn a_picture_of_the_wrong_size_is_refused() {
        assert!(gray_png(&[1.0; 5], 3, 2).is_err());
        assert!(gray_png(&[], 0, 0).is_err());
        assert!(gray_png(&[1.0], 1, 1).is_ok());
    }
}
