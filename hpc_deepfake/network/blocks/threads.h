// Threads that share the pictures of an operation. TensorFlow's C API has none to lend.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

class Threads {
 public:
  // Calls work(0) … work(count - 1), in up to `most` threads, of which the caller is one.
  static void share(int most, size_t count, const std::function<void(size_t)>& work) {
    const size_t helpers = most > 1 && count > 1 ? std::min(size_t(most), count) - 1 : 0;
    if (!helpers) {
      for (size_t i = 0; i < count; i++) work(i);
      return;
    }
    auto job = std::make_shared<Job>();
    job->work = &work;
    job->count = count;
    all().offer(job, helpers);
    job->run();
    job->wait();
  }

 private:
  struct Job {
    const std::function<void(size_t)>* work;
    size_t count, done = 0;
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::condition_variable finished;

    void run() {
      size_t own = 0;
      for (size_t i; (i = next.fetch_add(1)) < count; own++) (*work)(i);
      if (!own) return;
      std::lock_guard<std::mutex> lock(mutex);
      done += own;
      if (done == count) finished.notify_all();
    }
    void wait() {
      std::unique_lock<std::mutex> lock(mutex);
      finished.wait(lock, [&] { return done == count; });
    }
  };

  std::mutex mutex;
  std::condition_variable offered;
  std::deque<std::shared_ptr<Job>> jobs;
  size_t started = 0;

  static Threads& all() {  // never destroyed: its threads end with the process
    static auto* one = new Threads;
    return *one;
  }

  void offer(const std::shared_ptr<Job>& job, size_t helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      for (; started < helpers; started++) std::thread([this] { serve(); }).detach();
      for (size_t i = 0; i < helpers; i++) jobs.push_back(job);
    }
    offered.notify_all();
  }

  void serve() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex);
        offered.wait(lock, [&] { return !jobs.empty(); });
        job = jobs.front();
        jobs.pop_front();
      }
      job->run();
    }
  }
};
