// Reads the class names and the input size that `kerasfer export` stores in an .onnx file.

const KEY = "kerasfer.json";
const PROPERTIES = 14; // `metadata_props` in ONNX's ModelProto.
const LENGTH_DELIMITED = 2;

// Returns {name, class_names, image_size, quantize, input_layout, ...}. Throws an Error for any other file.
export function readMetadata(bytes) {
  try {
    for (const [field, entry] of fields(bytes)) {
      if (field !== PROPERTIES) continue;
      const text = new TextDecoder();
      const [key, value] = [...fields(entry)].map(([, content]) => text.decode(content));
      if (key !== KEY) continue;
      const metadata = JSON.parse(value);
      if (Array.isArray(metadata.class_names) && metadata.image_size > 0) return metadata;
    }
  } catch {
    // The file is not a valid protocol buffer or does not contain JSON.
  }
  throw new Error(
    "The file does not contain class names and an input size. Expected an .onnx file of a model " +
      "for pictures, written by kerasfer export.",
  );
}

// Yields the number and the content of the length-delimited fields of a protocol buffer.
function* fields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (position >= bytes.length) throw new RangeError("The message is truncated.");
      const byte = bytes[position++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) varint();
    else if (kind === LENGTH_DELIMITED) {
      const length = varint();
      if (position + length > bytes.length) throw new RangeError("The message is truncated.");
      yield [tag >>> 3, bytes.subarray(position, position + length)];
      position += length;
    } else if (kind === 1) position += 8;
    else if (kind === 5) position += 4;
    else throw new RangeError("The message has an unknown kind of field.");
  }
}
