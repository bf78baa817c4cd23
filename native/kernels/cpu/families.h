// What each source of this folder contributes to the table of its instruction set.
#pragma once
#include "simd.h"

namespace orch::kernels::ORCH_ISA {

const Table* table();

void fill_layer_norm(Table& t);
void fill_gate(Table& t);
void fill_heads(Table& t);
void fill_attention(Table& t);
void fill_attention_backward(Table& t);
void fill_elementwise(Table& t);
void fill_patch(Table& t);
void fill_noise(Table& t);
void fill_reduce(Table& t);
void fill_adamw(Table& t);
void fill_matmul(Table& t);

}  // namespace orch::kernels::ORCH_ISA
