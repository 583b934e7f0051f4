// Poses in a picture with onnxruntime's C++ API: estimate FILE.onnx PICTURE.ppm [L,T,R,B ...]
//
// FILE.onnx is one that `cigpose-tools pack` made. With a detector inside it finds the people
// itself; otherwise each further argument is a person's box in pixels. PICTURE.ppm is a binary PPM.
// Prints one JSON object. Build: g++ -std=c++17 -I INCLUDE estimate.cpp -o estimate libonnxruntime.so
// From 1.32 on, onnxruntime reports to its maker unless ORT_DISABLE_TELEMETRY=1 is set.

#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using Shape = std::vector<int64_t>;

// A binary PPM of 8 bits as RGB; shape becomes (height, width, 3).
std::vector<uint8_t> readPpm(const std::string& path, Shape& shape) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0, most = 0;
  file >> kind >> width >> height >> most;
  if (kind != "P6" || most != 255 || width < 1 || height < 1)
    throw std::runtime_error(path + ": expected a binary PPM of 8 bits; convert the picture");
  file.get();
  shape = {height, width, 3};
  std::vector<uint8_t> rgb(3 * width * height);
  file.read(reinterpret_cast<char*>(rgb.data()), rgb.size());
  if (!file) throw std::runtime_error(path + ": expected all its pixels; convert it again");
  return rgb;
}

template <class T>
Ort::Value tensor(std::vector<T>& values, const Shape& shape) {
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto size = values.size();
  return Ort::Value::CreateTensor<T>(memory, values.data(), size, shape.data(), shape.size());
}

// Prints numbers as nested lists of their shape, from an axis on; returns what comes after them.
const float* print(const float* values, const Shape& shape, size_t axis = 0) {
  if (axis == shape.size()) return std::printf("%.9g", *values), values + 1;
  std::printf("[");
  for (int64_t i = 0; i < shape[axis]; i++) {
    if (i) std::printf(",");
    values = print(values, shape, axis + 1);
  }
  std::printf("]");
  return values;
}

int main(int count, char** arguments) try {
  if (count < 3) throw std::runtime_error("usage: estimate FILE.onnx PICTURE.ppm [L,T,R,B ...]");
  Shape shape;
  auto rgb = readPpm(arguments[2], shape);
  std::vector<float> boxes(4 * (count - 3));
  for (int i = 3; i < count; i++) {
    float* box = &boxes[4 * (i - 3)];
    if (std::sscanf(arguments[i], "%f,%f,%f,%f", box, box + 1, box + 2, box + 3) != 4)
      throw std::runtime_error(arguments[i] + std::string(": expected left,top,right,bottom"));
  }
  Ort::Env environment(ORT_LOGGING_LEVEL_ERROR);
  Ort::Session session(environment, arguments[1], Ort::SessionOptions());
  Ort::Value inputs[] = {tensor(rgb, shape), tensor(boxes, {count - 3, 4})};
  const char* inputNames[] = {"frame", "boxes"};  // the latter without a detector inside
  const char* names[] = {"keypoints", "scores", "boxes", "box_scores"};  // ... with one
  auto outputs = session.Run({}, inputNames, inputs, session.GetInputCount(), names,
                             session.GetOutputCount());
  for (size_t i = 0; i < outputs.size(); i++) {
    std::printf("%s\"%s\":", i ? "," : "{", names[i]);
    print(outputs[i].GetTensorData<float>(), outputs[i].GetTensorTypeAndShapeInfo().GetShape());
  }
  std::printf("}\n");
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
