/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for people: one line per instruction, or a graph for dot. */
#include "config.h"
#include "lib/plan/plan.h"
#include "lib/plan/text.h"

static void print_flags(uint32_t flags, FILE *out)
{
    static const char *const names[] = {"WHOLE", "REMOTE_IN", "REMOTE_OUT", "REMOTE_SCRATCH"};
    for (unsigned k = 0; k < 4; k++)
        if (flags & 1u << k) fprintf(out, " %s", names[k]);
}

static void print_ref(const struct mdl_plan *plan, const struct mdl_ref *ref, FILE *out)
{
    char text[MDL_REF_TEXT_BYTES];
    mdl_ref_format(ref, plan->parts, text, sizeof(text));
    fputs(text, out);
}

static void print_sources(const struct mdl_plan *plan, const struct mdl_inst *in, FILE *out)
{
    for (uint32_t k = 0; k < in->nsrc; k++) {
        if (k) fputs(" + ", out);
        print_ref(plan, &plan->refs[in->src + k], out);
    }
}

static void print_operands(const struct mdl_plan *plan, const struct mdl_inst *in, FILE *out)
{
    switch (in->op) {
    case MDL_OP_SEND:
        print_sources(plan, in, out);
        fprintf(out, " -> %u ch %u", in->peer, in->channel);
        break;
    case MDL_OP_RECV:
        print_ref(plan, &in->dst, out);
        fprintf(out, " <- %u ch %u", in->peer, in->channel);
        break;
    case MDL_OP_SIGNAL: fprintf(out, "-> %u ch %u", in->peer, in->channel); break;
    case MDL_OP_WAIT: fprintf(out, "<- %u ch %u", in->peer, in->channel); break;
    default:
        print_ref(plan, &in->dst, out);
        fputs(" = ", out);
        print_sources(plan, in, out);
    }
    static const char *const names[] = {"FINAL", "PREMUL", "TREE"};
    for (unsigned k = 0; k < 3; k++)
        if (in->flags & 1u << k) fprintf(out, " %s", names[k]);
}

void mdl_plan_dump_text(const struct mdl_plan *plan, FILE *out)
{
    fprintf(out, "plan %s: %u instructions, parts %u, channels %u, slots in %u out %u scratch %u", plan->algo,
            plan->ninsts, plan->parts, plan->channels, plan->in_slots, plan->out_slots, plan->scratch_slots);
    print_flags(plan->flags, out);
    fputc('\n', out);
    for (uint32_t i = 0; i < plan->ninsts; i++) {
        const struct mdl_inst *in = &plan->insts[i];
        fprintf(out, "%5u %-6s ", i, mdl_opcode_name(in->op));
        print_operands(plan, in, out);
        for (uint32_t k = 0; k < in->ndep; k++) fprintf(out, "%s %u", k ? "" : "  after", plan->deps[in->dep + k]);
        fputc('\n', out);
    }
}

/* The lane's order is implied, not in the dependencies: shown dashed. */
static void print_lane_edge(const struct mdl_plan *plan, uint32_t i, FILE *out)
{
    const struct mdl_inst *in = &plan->insts[i];
    if (in->op == MDL_OP_COPY || in->op == MDL_OP_REDUCE) return;
    for (uint32_t k = i; k-- > 0;) {
        const struct mdl_inst *before = &plan->insts[k];
        if (before->op != in->op || before->peer != in->peer || before->channel != in->channel) continue;
        fprintf(out, "  i%u -> i%u [style=dashed];\n", k, i);
        return;
    }
}

void mdl_plan_dump_dot(const struct mdl_plan *plan, int rank, FILE *out)
{
    fprintf(out, "digraph rank%d {\n  label=\"%s, rank %d\";\n  node [shape=box];\n", rank, plan->algo, rank);
    for (uint32_t i = 0; i < plan->ninsts; i++) {
        const struct mdl_inst *in = &plan->insts[i];
        fprintf(out, "  i%u [label=\"%u %s ", i, i, mdl_opcode_name(in->op));
        print_operands(plan, in, out);
        fputs("\"];\n", out);
        for (uint32_t k = 0; k < in->ndep; k++) fprintf(out, "  i%u -> i%u;\n", plan->deps[in->dep + k], i);
        print_lane_edge(plan, i, out);
    }
    fputs("}\n", out);
}
