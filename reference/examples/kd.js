// Soft labels in JavaScript: tinydistill verify --as command --impl "node kd.js" --equation soft_labels.classes
"use strict"

const fs = require("fs")
const path = require("path")

function logSoftmax(z) {
    const largest = Math.max(...z)
    const logSum = Math.log(z.reduce((sum, x) => sum + Math.exp(x - largest), 0))
    return z.map(x => x - largest - logSum)
}

// T^2 KL(teacher || student) as a mean over the rows, and its gradient.
function kd(student, teacher, T, upstream) {
    if (!(T > 0)) throw new Error(`need a temperature above 0, got ${T}`)
    if (String(student.shape) !== String(teacher.shape)) {
        throw new Error(`need logits of one shape, got ${student.shape} and ${teacher.shape}`)
    }
    const [rows, classes] = student.shape
    let value = 0
    const gradient = []
    for (let n = 0; n < rows; n++) {
        const row = logits => logSoftmax(logits.data.slice(n * classes, (n + 1) * classes).map(x => x / T))
        const logQ = row(student), logP = row(teacher)
        for (let c = 0; c < classes; c++) {
            const p = Math.exp(logP[c])
            value += T * T / rows * p * (logP[c] - logQ[c])
            gradient.push(upstream * T / rows * (Math.exp(logQ[c]) - p))
        }
    }
    return {value, dstudent_logits: {shape: student.shape, data: gradient}}
}

const folder = process.argv.at(-1)
const request = JSON.parse(fs.readFileSync(path.join(folder, "request.json"), "utf8"))
if (request.equation !== "soft_labels.classes") process.exit(3)
const {student_logits, teacher_logits} = request.inputs
const answer = kd(student_logits, teacher_logits, request.attrs.temperature, request.upstream.value.data[0])
fs.writeFileSync(path.join(folder, "outputs.json"), JSON.stringify(answer))
