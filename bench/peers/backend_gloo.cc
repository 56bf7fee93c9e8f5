// SPDX-License-Identifier: Apache-2.0
/*
 * Gloo for bench/compare: its TCP transport, ranks that meet through a FileStore (COMPARE_STORE: a folder), bound to
 * the address COMPARE_ADDRESS.
 *
 * Gloo has several algorithms and leaves the choice to its user: each is offered as a variant, and the controller keeps
 * the fastest for each size. Gloo's older algorithms work in place on one buffer, so that the input is copied first,
 * as whoever calls them with two buffers has to. What is asked for is made once for a job, like an MPI's persistent
 * collective, so that no call pays for it.
 */
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/alltoall.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/broadcast_one_to_all.h>
#include <gloo/config.h>
#include <gloo/gather.h>
#include <gloo/math.h>
#include <gloo/reduce.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/scatter.h>
#include <gloo/transport/tcp/device.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "worker.h"

namespace
{

using Operation = std::function<void()>;

std::shared_ptr<gloo::rendezvous::Context> context;
std::shared_ptr<gloo::transport::Device> device;
std::unique_ptr<gloo::BarrierOptions> meeting;
Operation operation; // what call() does: that of the job prepared last

constexpr auto patience = std::chrono::seconds(60);

bool guarded(const std::function<void()> &action)
{
    try {
        action();
        return true;
    } catch (const std::exception &error) {
        complain("%s", error.what());
        return false;
    }
}

template <typename T> void add(void *c, const void *a, const void *b, size_t n) { gloo::sum<T>(c, a, b, n); }

template <typename T> Operation new_allreduce(const job *j, gloo::AllreduceOptions::Algorithm algorithm)
{
    auto options = std::make_shared<gloo::AllreduceOptions>(context);
    options->setAlgorithm(algorithm);
    options->setReduceFunction(add<T>);
    options->setInput(static_cast<T *>(j->send), j->count);
    options->setOutput(static_cast<T *>(j->recv), j->count);
    return [options] { gloo::allreduce(*options); };
}

template <typename T, typename Algorithm> Operation old_allreduce(const job *j)
{
    std::vector<T *> buffers{static_cast<T *>(j->recv)};
    auto algorithm = std::make_shared<Algorithm>(context, buffers, static_cast<int>(j->count));
    void *in = j->send, *out = j->recv;
    size_t bytes = j->count * sizeof(T);
    return [=] {
        std::memcpy(out, in, bytes);
        algorithm->run();
    };
}

template <typename T> Operation make_allreduce(const job *j)
{
    switch (j->variant) {
    case 0: return new_allreduce<T>(j, gloo::AllreduceOptions::Algorithm::RING);
    case 1: return new_allreduce<T>(j, gloo::AllreduceOptions::Algorithm::BCUBE);
    case 2: return old_allreduce<T, gloo::AllreduceHalvingDoubling<T>>(j);
    default: return old_allreduce<T, gloo::AllreduceRingChunked<T>>(j);
    }
}

template <typename T> Operation make_reduce_scatter(const job *j)
{
    auto all = std::make_shared<std::vector<T>>(j->count * static_cast<size_t>(context->size));
    std::vector<T *> buffers{all->data()};
    std::vector<int> counts(static_cast<size_t>(context->size), static_cast<int>(j->count));
    auto algorithm = std::make_shared<gloo::ReduceScatterHalvingDoubling<T>>(context, buffers,
                                                                             static_cast<int>(all->size()), counts);
    void *in = j->send, *out = j->recv;
    size_t bytes = j->count * sizeof(T);
    return [=] {
        std::memcpy(all->data(), in, all->size() * sizeof(T));
        algorithm->run();
        std::memcpy(out, all->data(), bytes);
    };
}

template <typename T> Operation make_broadcast(const job *j)
{
    T *buffer = static_cast<T *>(j->recv);
    if (j->variant == 1) {
        std::vector<T *> buffers{buffer};
        auto algorithm =
            std::make_shared<gloo::BroadcastOneToAll<T>>(context, buffers, static_cast<int>(j->count), ROOT);
        return [algorithm] { algorithm->run(); };
    }
    auto options = std::make_shared<gloo::BroadcastOptions>(context);
    options->setOutput(buffer, j->count);
    options->setRoot(ROOT);
    return [options] { gloo::broadcast(*options); };
}

template <typename T> Operation make_allgather(const job *j)
{
    auto options = std::make_shared<gloo::AllgatherOptions>(context);
    options->setInput(static_cast<T *>(j->send), j->count);
    options->setOutput(static_cast<T *>(j->recv), j->count * static_cast<size_t>(context->size));
    return [options] { gloo::allgather(*options); };
}

template <typename T> Operation make_alltoall(const job *j)
{
    size_t n = j->count * static_cast<size_t>(context->size);
    auto options = std::make_shared<gloo::AlltoallOptions>(context);
    options->setInput(static_cast<T *>(j->send), n);
    options->setOutput(static_cast<T *>(j->recv), n);
    return [options] { gloo::alltoall(*options); };
}

template <typename T> Operation make_gather(const job *j)
{
    auto options = std::make_shared<gloo::GatherOptions>(context);
    options->setInput(static_cast<T *>(j->send), j->count);
    if (context->rank == ROOT)
        options->setOutput(static_cast<T *>(j->recv), j->count * static_cast<size_t>(context->size));
    options->setRoot(ROOT);
    return [options] { gloo::gather(*options); };
}

template <typename T> Operation make_scatter(const job *j)
{
    auto options = std::make_shared<gloo::ScatterOptions>(context);
    std::vector<T *> parts;
    for (int r = 0; r < context->size; r++)
        parts.push_back(static_cast<T *>(j->send) + static_cast<size_t>(r) * j->count);
    if (context->rank == ROOT) options->setInputs(parts, j->count);
    options->setOutput(static_cast<T *>(j->recv), j->count);
    options->setRoot(ROOT);
    return [options] { gloo::scatter(*options); };
}

// Everyone needs an output, and not the root alone as in MPI.
template <typename T> Operation make_reduce(const job *j)
{
    auto options = std::make_shared<gloo::ReduceOptions>(context);
    auto spare = std::make_shared<std::vector<T>>(context->rank == ROOT ? 0 : j->count);
    options->setInput(static_cast<T *>(j->send), j->count);
    options->setOutput(context->rank == ROOT ? static_cast<T *>(j->recv) : spare->data(), j->count);
    options->setReduceFunction(add<T>);
    options->setRoot(ROOT);
    return [options, spare] { gloo::reduce(*options); };
}

template <typename T> Operation make(const job *j)
{
    switch (j->collective) {
    case ALLREDUCE: return make_allreduce<T>(j);
    case ALLGATHER: return make_allgather<T>(j);
    case REDUCESCATTER: return make_reduce_scatter<T>(j);
    case BROADCAST: return make_broadcast<T>(j);
    case ALLTOALL: return make_alltoall<T>(j);
    case GATHER: return make_gather<T>(j);
    case SCATTER: return make_scatter<T>(j);
    default: return make_reduce<T>(j);
    }
}

bool prepare(const job *j)
{
    return guarded([j] {
        operation = nullptr; // its buffers go before new ones come
        switch (j->type) {
        case F32: operation = make<float>(j); break;
        case F64: operation = make<double>(j); break;
        case I8: operation = make<int8_t>(j); break;
        case I32: operation = make<int32_t>(j); break;
        default: throw std::runtime_error("Gloo has no such type");
        }
    });
}

bool open_gloo(world *w)
{
    const char *store = std::getenv("COMPARE_STORE"), *address = std::getenv("COMPARE_ADDRESS");

    return guarded([=] {
        if (!store) throw std::runtime_error("COMPARE_STORE is not set");
        device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address ? address : "127.0.0.1"));
        gloo::rendezvous::FileStore files(store);
        context = std::make_shared<gloo::rendezvous::Context>(w->rank, w->nranks);
        context->setTimeout(patience);
        context->connectFullMesh(files, device);
        meeting = std::make_unique<gloo::BarrierOptions>(context);
    });
}

void close_gloo()
{
    operation = nullptr;
    meeting.reset();
    context.reset();
    device.reset();
}

void tell_version(char *text, size_t size)
{
    std::snprintf(text, size, "Gloo %d.%d.%d", GLOO_VERSION_MAJOR, GLOO_VERSION_MINOR, GLOO_VERSION_PATCH);
}

const char *variants(enum collective collective, enum type type)
{
    if (type != F32 && type != F64 && type != I8 && type != I32) return "";
    switch (collective) {
    case ALLREDUCE: return "ring,bcube,halving-doubling,ring-chunked";
    case BROADCAST: return "tree,one-to-all";
    case REDUCESCATTER: return "halving-doubling";
    default: return "default";
    }
}

bool barrier()
{
    return guarded([] { gloo::barrier(*meeting); });
}

bool call(const job *) { return guarded(operation); }

} // namespace

extern "C" const struct backend backend = {
    false, open_gloo, close_gloo, tell_version, variants, nullptr, nullptr, barrier, prepare, call,
};
