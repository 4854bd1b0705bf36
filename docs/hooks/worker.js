/* Search from a folder: a page that was opened as a file may not start a Worker, so its script runs in a hidden frame. */
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      const arrived = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      this.ready = new Promise((done, failed) => {
        inside.importScripts = (...files) => files.reduce((before, file) => before.then(() => load(file)), Promise.resolve());
        const load = (file) =>
          new Promise((loaded, missing) => {
            const script = inside.document.createElement("script");
            script.src = file;
            script.onload = loaded;
            script.onerror = missing;
            inside.document.body.append(script);
          });
        inside.postMessage = (data) => setTimeout(() => arrived(data));
        load(url).then(done, failed);
      });
      this.send = (data) => inside.dispatchEvent(new MessageEvent("message", { data }));
      this.frame = frame;
    }
    postMessage(data) {
      this.ready.then(() => this.send(data));
    }
    terminate() {
      this.frame.remove();
    }
  };
