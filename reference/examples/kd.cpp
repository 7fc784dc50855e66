// Soft labels in C++, without a JSON library: g++ -O2 -o kd kd.cpp
// tinydistill verify --as command --impl ./kd --equation soft_labels.classes
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// The numbers behind `"key":`: one, or a list of them in brackets.
std::vector<double> numbers(const std::string& text, const std::string& key, size_t from = 0) {
    size_t at = text.find("\"" + key + "\":", from);
    std::vector<double> found;
    if (at == std::string::npos) return found;
    const char* p = text.c_str() + at + key.size() + 3;
    while (*p == ' ' || *p == '[') p++;
    for (char* end; found.push_back(std::strtod(p, &end)), p = end, *p == ','; p++) {}
    return found;
}

std::vector<double> log_softmax(const double* z, size_t classes, double T) {
    std::vector<double> y(z, z + classes);
    double largest = *std::max_element(y.begin(), y.end()), sum = 0;
    for (double& x : y) sum += std::exp(x = (x - largest) / T);
    for (double& x : y) x -= std::log(sum);
    return y;
}

int refuse(const char* why) { return std::fprintf(stderr, "need %s\n", why), 1; }

int main(int, char** arguments) {
    std::string folder = arguments[1];
    std::ifstream file(folder + "/request.json");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    if (text.find("\"equation\": \"soft_labels.classes\"") == std::string::npos) return 3;
    size_t s = text.find("\"student_logits\":"), t = text.find("\"teacher_logits\":");
    std::vector<double> student = numbers(text, "data", s), teacher = numbers(text, "data", t), gradient;
    std::vector<double> shape = numbers(text, "shape", s);
    double T = numbers(text, "temperature")[0], value = 0;
    double upstream = numbers(text, "data", text.find("\"upstream\":"))[0];
    if (!(T > 0)) return refuse("a temperature above 0");
    if (shape != numbers(text, "shape", t)) return refuse("logits of one shape");
    size_t rows = shape[0], classes = shape[1];
    for (size_t n = 0; n < rows; n++) {             // T^2 KL(teacher || student) as a mean over the rows
        auto log_q = log_softmax(&student[n * classes], classes, T);
        auto log_p = log_softmax(&teacher[n * classes], classes, T);
        for (size_t c = 0; c < classes; c++) {
            value += T * T / rows * std::exp(log_p[c]) * (log_p[c] - log_q[c]);
            gradient.push_back(upstream * T / rows * (std::exp(log_q[c]) - std::exp(log_p[c])));
        }
    }
    std::FILE* out = std::fopen((folder + "/outputs.json").c_str(), "w");
    std::fprintf(out, "{\"value\": %.17g, \"dstudent_logits\": ", value);
    std::fprintf(out, "{\"shape\": [%zu, %zu], \"data\": [", rows, classes);
    for (size_t i = 0; i < gradient.size(); i++) std::fprintf(out, i ? ", %.17g" : "%.17g", gradient[i]);
    std::fprintf(out, "]}}\n");
    return std::fclose(out);
}
