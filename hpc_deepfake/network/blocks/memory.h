// Memory for large tensors that is used again in the next step. Fresh memory of the operating system
// costs as much as computing what is written to it: each page is cleared at its first use.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

class Memory {
 public:
  static constexpr size_t LEAST = size_t(1) << 20;  // bytes; TensorFlow's own allocator has the rest

  struct Piece {
    void *start, *mapped;
    size_t size, mapped_size;
  };

  // A piece of at least `bytes`, aligned to huge pages; its start is nullptr without memory.
  static Piece* take(size_t bytes) {
    {
      std::lock_guard<std::mutex> lock(mutex());
      auto& idle = pieces();
      auto best = idle.end();
      for (auto i = idle.begin(); i != idle.end(); ++i)
        if ((*i)->size >= bytes && (*i)->size <= 2 * bytes && (best == idle.end() || (*i)->size < (*best)->size))
          best = i;
      if (best != idle.end()) {
        Piece* piece = *best;
        idle.erase(best);
        return piece;
      }
    }
    const size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void* mapped = mmap(nullptr, whole + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    const uintptr_t start = (uintptr_t(mapped) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    madvise(reinterpret_cast<void*>(start), whole, MADV_HUGEPAGE);
    return new Piece{reinterpret_cast<void*>(start), mapped, whole, whole + HUGE_PAGE};
  }

  static void give_back(Piece* piece) {
    std::vector<Piece*> surplus;
    {
      std::lock_guard<std::mutex> lock(mutex());
      auto& idle = pieces();
      idle.push_back(piece);
      while (idle.size() > MOST) {  // those that have been idle for longest
        surplus.push_back(idle.front());
        idle.erase(idle.begin());
      }
    }
    for (Piece* old : surplus) {
      munmap(old->mapped, old->mapped_size);
      delete old;
    }
  }

 private:
  static constexpr size_t HUGE_PAGE = size_t(2) << 20;
  static constexpr size_t MOST = 16;  // idle pieces

  // never destroyed: tensors may live until the end of the process
  static std::mutex& mutex() {
    static auto* one = new std::mutex;
    return *one;
  }
  static std::vector<Piece*>& pieces() {
    static auto* all = new std::vector<Piece*>;
    return *all;
  }
};
