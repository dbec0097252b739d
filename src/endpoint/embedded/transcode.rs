//! Rewrites a GGUF file so that every matrix has a fast kernel: Q4_1, Q5_0 and Q5_1 become Q8_0.
//! In: a GGUF file. Out: another one, the same bytes each time.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Result};

/// `general.file_type` of a file that is mostly Q8_0 (`LLAMA_FTYPE_MOSTLY_Q8_0`).
const MOSTLY_Q8_0: u32 = 7;

/// candle has SIMD kernels for the other types (four times as fast, measured).
fn is_slow(dtype: GgmlDType) -> bool {
    matches!(dtype, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
}

/// Whether `transcode` would change anything.
pub(super) fn needs_transcoding(content: &gguf_file::Content) -> bool {
    content.tensor_infos.values().any(|info| is_slow(info.ggml_dtype))
}

/// Writes the file at `from` to `to` with the slow types replaced, through a temporary file in the same folder.
pub(super) fn transcode(from: &Path, to: &Path) -> Result<()> {
    let mut file = BufReader::new(File::open(from)?);
    let mut content = gguf_file::Content::read(&mut file)?;
    content.metadata.insert("general.file_type".into(), gguf_file::Value::U32(MOSTLY_Q8_0));

    // A HashMap's order would give another file each time.
    let mut metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    metadata.sort_by_key(|(key, _)| *key);
    let mut names: Vec<&str> = content.tensor_infos.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        let tensor = match is_slow(tensor.dtype()) {
            true => QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)?,
            false => tensor,
        };
        tensors.push((name, tensor));
    }
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();

    let folder = to.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    gguf_file::write(&mut writer, &metadata, &tensors)?;
    writer.flush()?;
    drop(writer);
    temporary.persist(to).map_err(|e| e.error)?;
    Ok(())
}
